// attention's backward for GPUs: the contract of attention_backward.wgsl, by tiles as in attention_tiled.wgsl, but
// backward_kv leaves the share of each query head, dk_heads and dv_heads (rows, H * D); sum_heads adds up those that
// share a key and value head, in order: dk and dv (rows, Hkv * D).
struct Params { rows: u32, length: u32, heads: u32, kv_heads: u32, scale: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read> positions: array<u32>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2f>;  // lse and delta
@group(0) @binding(7) var<storage, read> dout: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dk_heads: array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dv_heads: array<vec4f>;
@group(0) @binding(2) var<storage, read> k_heads: array<vec4f>;
@group(0) @binding(3) var<storage, read> v_heads: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> dv: array<vec4f>;

const PITCH = HEAD_QUADS + 1u;
const SCORES = TILE / 8u;
const QUADS = (HEAD_QUADS + 7u) / 8u;
var<workgroup> q_tile: array<vec4f, TILE * PITCH>;
var<workgroup> dout_tile: array<vec4f, TILE * PITCH>;
var<workgroup> k_tile: array<vec4f, TILE * PITCH>;
var<workgroup> v_tile: array<vec4f, TILE * PITCH>;
var<workgroup> p_tile: array<f32, TILE * (TILE + 1u)>;
var<workgroup> ds_tile: array<f32, TILE * (TILE + 1u)>;
var<workgroup> first_key: u32;

fn load_queries(start: u32, base: u32, head: u32, lane: u32) {
    for (var i = lane; i < TILE * HEAD_QUADS; i += TILE * 8u) {
        let query = base + min(start + i / HEAD_QUADS, params.length - 1u);
        let at = (query * params.heads + head) * HEAD_QUADS + i % HEAD_QUADS;
        q_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = q[at];
        dout_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = dout[at];
    }
}

fn load_keys(start: u32, base: u32, kv_head: u32, lane: u32) {
    for (var i = lane; i < TILE * HEAD_QUADS; i += TILE * 8u) {
        let key = base + min(start + i / HEAD_QUADS, params.length - 1u);
        let at = (key * params.kv_heads + kv_head) * HEAD_QUADS + i % HEAD_QUADS;
        k_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = k[at];
        v_tile[i / HEAD_QUADS * PITCH + i % HEAD_QUADS] = v[at];
    }
}

// Fills p_tile and ds_tile for the loaded queries (rows, from `query0`) and keys (columns, from `key0`).
fn make_scores(query0: u32, key0: u32, base: u32, head: u32, lane: u32) {
    let row = lane / 8u;
    let part = lane % 8u;
    var scores = array<f32, SCORES>();
    var dp = array<f32, SCORES>();
    for (var d = 0u; d < HEAD_QUADS; d++) {
        let query = q_tile[row * PITCH + d];
        let grad = dout_tile[row * PITCH + d];
        for (var j = 0u; j < SCORES; j++) {
            scores[j] += dot(query, k_tile[(j * 8u + part) * PITCH + d]);
            dp[j] += dot(grad, v_tile[(j * 8u + part) * PITCH + d]);
        }
    }
    let t = query0 + row;
    let safe_t = min(t, params.length - 1u);
    let first = safe_t - positions[base + safe_t];
    let own = statistics[(base + safe_t) * params.heads + head];
    for (var j = 0u; j < SCORES; j++) {
        let key = key0 + j * 8u + part;
        let seen = t < params.length && key >= first && key <= t;
        let p = select(0.0, exp(scores[j] * params.scale - own.x), seen);
        let at = row * (TILE + 1u) + j * 8u + part;
        p_tile[at] = p;
        ds_tile[at] = p * (dp[j] - own.y) * params.scale;
    }
}

@compute @workgroup_size(TILE * 8u)
fn backward_q(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let base = group.z * params.length;
    let kv_head = head / (params.heads / params.kv_heads);
    let row = lane / 8u;
    let part = lane % 8u;
    let query0 = group.x * TILE;
    if (lane == 0u) { first_key = query0 - positions[base + query0]; }
    let begin = workgroupUniformLoad(&first_key);
    let end = min(query0 + TILE, params.length);
    load_queries(query0, base, head, lane);
    var acc: array<vec4f, QUADS>;
    for (var start = begin; start < end; start += TILE) {
        workgroupBarrier();
        load_keys(start, base, kv_head, lane);
        workgroupBarrier();
        make_scores(query0, start, base, head, lane);
        workgroupBarrier();
        for (var j = 0u; j < TILE; j++) {
            let ds = ds_tile[row * (TILE + 1u) + j];
            for (var i = 0u; i < QUADS; i++) { acc[i] += ds * k_tile[j * PITCH + min(i * 8u + part, HEAD_QUADS - 1u)]; }
        }
    }
    if (query0 + row >= params.length) { return; }
    let index = ((base + query0 + row) * params.heads + head) * HEAD_QUADS;
    for (var i = 0u; i < QUADS; i++) {
        if (i * 8u + part < HEAD_QUADS) { dq[index + i * 8u + part] = acc[i]; }
    }
}

@compute @workgroup_size(TILE * 8u)
fn backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let base = group.z * params.length;
    let row = lane / 8u;
    let part = lane % 8u;
    let key0 = group.x * TILE;
    load_keys(key0, base, head / (params.heads / params.kv_heads), lane);
    var acc_k: array<vec4f, QUADS>;
    var acc_v: array<vec4f, QUADS>;
    let last_key = min(key0 + TILE, params.length) - 1u;
    // Only queries from the first key of this workgroup on, as far as the segment of its last one, see any of them.
    for (var start = key0; start < params.length; start += TILE) {
        if (start - positions[base + start] > last_key) { break; }
        workgroupBarrier();
        load_queries(start, base, head, lane);
        workgroupBarrier();
        make_scores(start, key0, base, head, lane);
        workgroupBarrier();
        for (var j = 0u; j < TILE; j++) {
            let p = p_tile[j * (TILE + 1u) + row];
            let ds = ds_tile[j * (TILE + 1u) + row];
            for (var i = 0u; i < QUADS; i++) {
                let quad = j * PITCH + min(i * 8u + part, HEAD_QUADS - 1u);
                acc_k[i] += ds * q_tile[quad];
                acc_v[i] += p * dout_tile[quad];
            }
        }
    }
    if (key0 + row >= params.length) { return; }
    let index = ((base + key0 + row) * params.heads + head) * HEAD_QUADS;
    for (var i = 0u; i < QUADS; i++) {
        if (i * 8u + part < HEAD_QUADS) {
            dk_heads[index + i * 8u + part] = acc_k[i];
            dv_heads[index + i * 8u + part] = acc_v[i];
        }
    }
}

@compute @workgroup_size(64)
fn sum_heads(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
             @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;  // quad of (rows, Hkv * D)
    if (i >= params.rows * params.kv_heads * HEAD_QUADS) { return; }
    let share = params.heads / params.kv_heads;
    let source = (i / HEAD_QUADS) * share * HEAD_QUADS + i % HEAD_QUADS;
    var sum_k = k_heads[source];
    var sum_v = v_heads[source];
    for (var h = 1u; h < share; h++) {
        sum_k += k_heads[source + h * HEAD_QUADS];
        sum_v += v_heads[source + h * HEAD_QUADS];
    }
    dk[i] = sum_k;
    dv[i] = sum_v;
}
