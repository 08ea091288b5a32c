// attention for GPUs: the contract of attention.wgsl, by tiles of TILE queries x TILE keys in workgroup memory.
// Eight invocations share a query row: each makes every eighth score of the row and every eighth quad of its result.
// HEAD_QUADS = D / 4 and TILE (32, 16 or 8) are given by the op; a workgroup is TILE * 8 invocations.
struct Params { length: u32, heads: u32, kv_heads: u32, scale: f32, cached: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read> positions: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

const NEVER = -3.0e38;
const PITCH = HEAD_QUADS + 1u;              // one quad more: rows begin in different banks
const SCORES = TILE / 8u;                   // of an invocation in a tile
const QUADS = (HEAD_QUADS + 7u) / 8u;       // of the result, of an invocation
var<workgroup> q_tile: array<vec4f, TILE * PITCH>;
var<workgroup> k_tile: array<vec4f, TILE * PITCH>;
var<workgroup> v_tile: array<vec4f, TILE * PITCH>;
var<workgroup> p_tile: array<f32, TILE * (TILE + 1u)>;
var<workgroup> first_key: u32;

@compute @workgroup_size(TILE * 8u)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let past = select(0u, step.past, params.cached == 1u);
    let head = group.y;
    let batch = group.z;
    let kv_head = head / (params.heads / params.kv_heads);
    let row = lane / 8u;
    let part = lane % 8u;
    let t = group.x * TILE + row;
    let safe_t = min(t, params.length - 1u);
    let last = past + safe_t;
    let first = last - positions[batch * params.length + safe_t];
    if (lane == 0u) { first_key = first; }
    let begin = workgroupUniformLoad(&first_key);
    let end = past + min((group.x + 1u) * TILE, params.length);

    for (var i = lane; i < TILE * HEAD_QUADS; i += TILE * 8u) {
        let query = min(group.x * TILE + i / HEAD_QUADS, params.length - 1u);
        let at = ((batch * params.length + query) * params.heads + head) * HEAD_QUADS + i % HEAD_QUADS;
        q_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = q[at] * params.scale;
    }
    var acc: array<vec4f, QUADS>;
    var largest = NEVER;
    var sum = 0.0;
    for (var start = begin; start < end; start += TILE) {
        workgroupBarrier();
        for (var i = lane; i < TILE * HEAD_QUADS; i += TILE * 8u) {
            let key = min(start + i / HEAD_QUADS, end - 1u);
            let at = ((batch * params.length + key) * params.kv_heads + kv_head) * HEAD_QUADS + i % HEAD_QUADS;
            k_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = k[at];
            v_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = v[at];
        }
        workgroupBarrier();
        var scores = array<f32, SCORES>();  // naga zeroes only what is written so, when in a loop
        for (var d = 0u; d < HEAD_QUADS; d++) {
            let query = q_tile[row * PITCH + d];
            for (var j = 0u; j < SCORES; j++) { scores[j] += dot(query, k_tile[(j * 8u + part) * PITCH + d]); }
        }
        for (var j = 0u; j < SCORES; j++) {
            let key = start + j * 8u + part;
            p_tile[row * (TILE + 1u) + j * 8u + part] = select(NEVER, scores[j], key >= first && key <= last);
        }
        workgroupBarrier();
        var tile_largest = largest;
        for (var j = 0u; j < TILE; j++) { tile_largest = max(tile_largest, p_tile[row * (TILE + 1u) + j]); }
        let correction = exp(largest - tile_largest);
        largest = tile_largest;
        sum *= correction;
        for (var i = 0u; i < QUADS; i++) { acc[i] *= correction; }
        for (var j = 0u; j < TILE; j++) {
            let s = p_tile[row * (TILE + 1u) + j];
            let p = select(0.0, exp(s - largest), s > NEVER);
            sum += p;
            for (var i = 0u; i < QUADS; i++) { acc[i] += p * v_tile[j * PITCH + min(i * 8u + part, HEAD_QUADS - 1u)]; }
        }
    }
    if (t >= params.length) { return; }
    let index = (batch * params.length + t) * params.heads + head;
    for (var i = 0u; i < QUADS; i++) {
        if (i * 8u + part < HEAD_QUADS) { out[index * HEAD_QUADS + i * 8u + part] = acc[i] / sum; }
    }
    if (part == 0u) { lse[index] = largest + log(sum); }
}
