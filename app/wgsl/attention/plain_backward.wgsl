// attention's backward, in passes without atomics (FlashAttention-2, Dao 2023); names as in attention/plain.wgsl:
//   statistics from attention/delta.wgsl     p[i, j] = exp(s[i, j] - lse[i])     ds[i, j] = p[i, j] (dout[i] . v[j] - delta[i])
// (ds times the slope of the cap where there is one, see softcap.wgsl)
//   dq[i] = scale * sum_j ds[i, j] k[j]     dk[j] = scale * sum_i ds[i, j] q[i]     dv[j] = sum_i p[i, j] dout[i]
// One invocation owns one query of a head, or one key; OWNERS make a workgroup.
// dq: (rows, H * D)   dk, dv: (rows, Hkv * D), each summed over the query heads that share it; all written with `=`.
struct Params { rows: u32, length: u32, heads: u32, kv_heads: u32, scale: f32, window: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: softcap.wgsl
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read> positions: array<u32>;
@group(0) @binding(6) var<storage, read> statistics: array<vec2f>;  // lse and delta
@group(0) @binding(7) var<storage, read> dout: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dq: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dv: array<vec4f>;

var<workgroup> left: array<vec4f, TILE * HEAD_QUADS>;
var<workgroup> right: array<vec4f, TILE * HEAD_QUADS>;
var<workgroup> of_tile: array<vec2f, TILE>;     // lse and delta of the tile's queries
var<workgroup> starts: array<u32, TILE>;        // the first key that each of them sees
var<workgroup> first_key: u32;

// The first key that the query at `last` sees: its segment's, or the window's.
fn first_seen(last: u32, position: u32) -> u32 {
    return max(last - position, last + 1u - min(params.window, last + 1u));
}

@compute @workgroup_size(OWNERS)
fn backward_q(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let base = group.z * params.length;
    let kv_head = head / (params.heads / params.kv_heads);
    let t = group.x * OWNERS + lane;
    let own = min(t, params.length - 1u);
    let first = first_seen(own, positions[base + own]);
    if (lane == 0u) { first_key = first; }
    let begin = workgroupUniformLoad(&first_key);
    let end = min((group.x + 1u) * OWNERS, params.length);
    let index = (base + own) * params.heads + head;
    var query: array<vec4f, HEAD_QUADS>;
    var grad: array<vec4f, HEAD_QUADS>;
    var acc: array<vec4f, HEAD_QUADS>;
    for (var d = 0u; d < HEAD_QUADS; d++) {
        query[d] = q[index * HEAD_QUADS + d] * params.scale;
        grad[d] = dout[index * HEAD_QUADS + d];
    }
    let own_lse = statistics[index].x;
    let own_delta = statistics[index].y;
    for (var start = begin; start < end; start += TILE) {
        let count = min(TILE, end - start);
        workgroupBarrier();
        for (var i = lane; i < count * HEAD_QUADS; i += OWNERS) {
            let key = ((base + start + i / HEAD_QUADS) * params.kv_heads + kv_head) * HEAD_QUADS + i % HEAD_QUADS;
            left[i] = k[key];
            right[i] = v[key];
        }
        workgroupBarrier();
        for (var j = 0u; j < count; j++) {
            if (start + j < first || start + j > own) { continue; }
            var s = 0.0;
            var dp = 0.0;
            for (var d = 0u; d < HEAD_QUADS; d++) {
                s += dot(query[d], left[j * HEAD_QUADS + d]);
                dp += dot(grad[d], right[j * HEAD_QUADS + d]);
            }
            let y = capped(s);
            let ds = exp(y - own_lse) * (dp - own_delta) * params.scale * slope_at(y);
            for (var d = 0u; d < HEAD_QUADS; d++) { acc[d] += ds * left[j * HEAD_QUADS + d]; }
        }
    }
    if (t >= params.length) { return; }
    for (var d = 0u; d < HEAD_QUADS; d++) { dq[index * HEAD_QUADS + d] = acc[d]; }
}

@compute @workgroup_size(OWNERS)
fn backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.y;
    let base = group.z * params.length;
    let share = params.heads / params.kv_heads;
    let t = group.x * OWNERS + lane;
    let own = min(t, params.length - 1u);
    let index = (base + own) * params.kv_heads + kv_head;
    let last_key = min((group.x + 1u) * OWNERS, params.length) - 1u;
    var key: array<vec4f, HEAD_QUADS>;
    var value: array<vec4f, HEAD_QUADS>;
    var acc_k: array<vec4f, HEAD_QUADS>;
    var acc_v: array<vec4f, HEAD_QUADS>;
    for (var d = 0u; d < HEAD_QUADS; d++) {
        key[d] = k[index * HEAD_QUADS + d] * params.scale;
        value[d] = v[index * HEAD_QUADS + d];
    }
    for (var h = 0u; h < share; h++) {
        let head = kv_head * share + h;
        // Only queries from the first key of this workgroup on, as far as the segment of its last one, see any of them.
        for (var start = group.x * OWNERS; start < params.length; start += TILE) {
            if (first_seen(start, positions[base + start]) > last_key) { break; }
            let count = min(TILE, params.length - start);
            workgroupBarrier();
            for (var i = lane; i < count * HEAD_QUADS; i += OWNERS) {
                let at = ((base + start + i / HEAD_QUADS) * params.heads + head) * HEAD_QUADS + i % HEAD_QUADS;
                left[i] = q[at];
                right[i] = dout[at];
            }
            for (var i = lane; i < count; i += OWNERS) {
                let at = (base + start + i) * params.heads + head;
                of_tile[i] = statistics[at];
                starts[i] = first_seen(start + i, positions[base + start + i]);
            }
            workgroupBarrier();
            for (var i = 0u; i < count; i++) {
                if (start + i < own || starts[i] > own) { continue; }
                var s = 0.0;
                var dp = 0.0;
                for (var d = 0u; d < HEAD_QUADS; d++) {
                    s += dot(key[d], left[i * HEAD_QUADS + d]);
                    dp += dot(value[d], right[i * HEAD_QUADS + d]);
                }
                let y = capped(s);
                let p = exp(y - of_tile[i].x);
                let ds = p * (dp - of_tile[i].y) * params.scale * slope_at(y);
                for (var d = 0u; d < HEAD_QUADS; d++) {
                    acc_k[d] += ds * left[i * HEAD_QUADS + d];
                    acc_v[d] += p * right[i * HEAD_QUADS + d];
                }
            }
        }
    }
    if (t >= params.length) { return; }
    for (var d = 0u; d < HEAD_QUADS; d++) {
        dk[index * HEAD_QUADS + d] = acc_k[d];
        dv[index * HEAD_QUADS + d] = acc_v[d];
    }
}
