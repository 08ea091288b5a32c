// attention, causal, with grouped KV heads; nothing of size T x T is ever in memory.
//   s[i, j] = cap(scale * q[i] . k[j])  for the keys j that query i may see,   p = softmax(s),   out[i] = sum_j p[i, j] v[j]
// q, out: (rows, H * D)   k, v: (rows or cache length, Hkv * D)   lse: (rows, H), logsumexp of s, kept for backward
// Row t of sequence b is b * T + t. Query t sees the keys from t + past - positions[t] (where its segment begins) to
// t + past, of those only the last `window`; `past` is 0 in training and step.past over a cache. cap is that of softcap.wgsl.
// One invocation owns one query of one head; keys and values come through workgroup memory in tiles (online softmax,
// Milakov & Gimelshein 2018; FlashAttention, Dao 2022). HEAD_QUADS = D / 4, TILE (keys of a tile) and OWNERS (queries of a workgroup) are given by the op.
struct Params { length: u32, heads: u32, kv_heads: u32, scale: f32, cached: u32, window: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
// include: softcap.wgsl
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read> positions: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

const NEVER = -3.0e38;
var<workgroup> k_tile: array<vec4f, TILE * HEAD_QUADS>;
var<workgroup> v_tile: array<vec4f, TILE * HEAD_QUADS>;
var<workgroup> first_key: u32;

// The first key that the query at `last` sees: its segment's, or the window's.
fn first_seen(last: u32, position: u32) -> u32 {
    return max(last - position, last + 1u - min(params.window, last + 1u));
}

@compute @workgroup_size(OWNERS)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let past = select(0u, step.past, params.cached == 1u);
    let head = group.y;
    let batch = group.z;
    let kv_head = head / (params.heads / params.kv_heads);
    let t = group.x * OWNERS + lane;
    let row = batch * params.length + min(t, params.length - 1u);
    let last = past + min(t, params.length - 1u);
    let first = first_seen(last, positions[row]);
    if (lane == 0u) { first_key = first; }
    let begin = workgroupUniformLoad(&first_key);
    let end = past + min((group.x + 1u) * OWNERS, params.length);

    let at = (row * params.heads + head) * HEAD_QUADS;
    var query: array<vec4f, HEAD_QUADS>;
    var acc: array<vec4f, HEAD_QUADS>;
    for (var d = 0u; d < HEAD_QUADS; d++) { query[d] = q[at + d] * params.scale; }
    var largest = NEVER;
    var sum = 0.0;
    for (var start = begin; start < end; start += TILE) {
        let count = min(TILE, end - start);
        workgroupBarrier();
        for (var i = lane; i < count * HEAD_QUADS; i += OWNERS) {
            let key = ((batch * params.length + start + i / HEAD_QUADS) * params.kv_heads + kv_head) * HEAD_QUADS
                + i % HEAD_QUADS;
            k_tile[i] = k[key];
            v_tile[i] = v[key];
        }
        workgroupBarrier();
        var scores: array<f32, TILE>;
        var tile_largest = largest;
        for (var j = 0u; j < count; j++) {
            var s = 0.0;
            for (var d = 0u; d < HEAD_QUADS; d++) { s += dot(query[d], k_tile[j * HEAD_QUADS + d]); }
            let seen = start + j >= first && start + j <= last;
            scores[j] = select(NEVER, capped(s), seen);
            tile_largest = max(tile_largest, scores[j]);
        }
        let correction = exp(largest - tile_largest);
        largest = tile_largest;
        sum *= correction;
        for (var d = 0u; d < HEAD_QUADS; d++) { acc[d] *= correction; }
        for (var j = 0u; j < count; j++) {
            let p = select(0.0, exp(scores[j] - largest), scores[j] > NEVER);
            sum += p;
            for (var d = 0u; d < HEAD_QUADS; d++) { acc[d] += p * v_tile[j * HEAD_QUADS + d]; }
        }
    }
    if (t >= params.length) { return; }
    for (var d = 0u; d < HEAD_QUADS; d++) { out[at + d] = acc[d] / sum; }
    lse[row * params.heads + head] = largest + log(sum);
}
