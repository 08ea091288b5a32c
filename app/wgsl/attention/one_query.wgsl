// attention of one new query over the cache (decoding): the same result as attention/plain.wgsl for one row.
// q, out: (H * D)   k, v: caches (length, Hkv * D), of which rows 0 .. step.past are valid; the query sees the last `window` of them
// One workgroup of LANES (given by the op, at least HEAD_QUADS) a head. It takes the keys in blocks of LANES: one key an invocation for the scores, then the invocations
// share out the D channels of the weighted sum.
struct Params { heads: u32, kv_heads: u32, scale: f32, window: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
// include: softcap.wgsl
@group(0) @binding(2) var<storage, read> q: array<vec4f>;
@group(0) @binding(3) var<storage, read> k: array<vec4f>;
@group(0) @binding(4) var<storage, read> v: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> out: array<vec4f>;

const NEVER = -3.0e38;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> partial: array<f32, LANES>;
var<workgroup> sums: array<vec4f, LANES>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let kv_head = head / (params.heads / params.kv_heads);
    let length = step.past + 1u;
    let slices = LANES / HEAD_QUADS;   // invocations that share one quad of channels, each with its own keys
    let slice = lane / HEAD_QUADS;
    let quad = lane % HEAD_QUADS;
    var largest = NEVER;
    var sum = 0.0;
    var acc = vec4f(0.0);
    for (var start = length - min(params.window, length); start < length; start += LANES) {
        let count = min(LANES, length - start);
        var s = NEVER;
        if (lane < count) {
            let at = ((start + lane) * params.kv_heads + kv_head) * HEAD_QUADS;
            s = 0.0;
            for (var d = 0u; d < HEAD_QUADS; d++) { s += dot(q[head * HEAD_QUADS + d], k[at + d]); }
            s = capped(s * params.scale);
        }
        workgroupBarrier();
        partial[lane] = s;
        workgroupBarrier();
        for (var half = LANES / 2u; half > 0u; half >>= 1u) {
            if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
            workgroupBarrier();
        }
        let block_largest = max(largest, partial[0]);
        workgroupBarrier();
        let p = select(0.0, exp(s - block_largest), lane < count);
        weights[lane] = p;
        partial[lane] = p;
        workgroupBarrier();
        for (var half = LANES / 2u; half > 0u; half >>= 1u) {
            if (lane < half) { partial[lane] += partial[lane + half]; }
            workgroupBarrier();
        }
        let correction = exp(largest - block_largest);
        largest = block_largest;
        sum = sum * correction + partial[0];
        acc *= correction;
        if (slice < slices) {
            for (var j = slice; j < count; j += slices) {
                acc += weights[j] * v[((start + j) * params.kv_heads + kv_head) * HEAD_QUADS + quad];
            }
        }
    }
    sums[lane] = acc;
    workgroupBarrier();
    if (lane < HEAD_QUADS) {
        var whole = sums[lane];
        for (var i = 1u; i < slices; i++) { whole += sums[i * HEAD_QUADS + lane]; }
        out[head * HEAD_QUADS + lane] = whole / sum;
    }
}
