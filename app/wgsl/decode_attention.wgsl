// attention of one new token, from its raw q, k and v to what add_linear of decode.wgsl takes in:
//   q and k are turned by the token's angles (rope), k and v join the caches, and every head attends to rows 0 .. past.
// qkv: (H * D + 2 * Hkv * D)   table: (positions, D / 2) of (cos, sin)   k, v: caches (length, Hkv * D)
// out: SPLITS x (H * D) sums of weighted values, then SPLITS x H of (largest score, sum of weights, 0, 0)
// parts: (SPLITS * H, units), units = rank rounded up to a multiple of 4: A of the layer that comes next, over each of those sums; see decode.wgsl
// One workgroup for a head and a split of the cached keys; the first split takes the token's own key too. A split without
// a key leaves zeros and a score that weighs nothing.
struct Params { heads: u32, kv_heads: u32, scale: f32, next_rank: u32, next_units: u32, parts_out: u32, a0: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(3) var<storage, read> table: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> k: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(6) var<storage, read> adapter: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> parts: array<f32>;

const NEVER = -3.0e38;
const HALF = HEAD_QUADS / 2u;
var<workgroup> query: array<vec4f, HEAD_QUADS>;
var<workgroup> new_k: array<vec4f, HEAD_QUADS>;
var<workgroup> partial: array<f32, LANES>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> sums: array<vec4f, LANES>;

// The lower (sign -1) or upper (sign 1) half of a rotated head: own quad and its partner of the other half.
fn rotated(own: vec4f, partner: vec4f, quad: u32, sign: f32) -> vec4f {
    let at = step.past * HALF * 4u + quad * 4u;
    let t0 = table[at];
    let t1 = table[at + 1u];
    let t2 = table[at + 2u];
    let t3 = table[at + 3u];
    return own * vec4f(t0.x, t1.x, t2.x, t3.x) + sign * partner * vec4f(t0.y, t1.y, t2.y, t3.y);
}

fn rotated_quad(base: u32, quad: u32) -> vec4f {
    let upper = quad >= HALF;
    let low = select(quad, quad - HALF, upper);
    return rotated(qkv[base + quad], qkv[base + select(quad + HALF, low, upper)], low, select(-1.0, 1.0, upper));
}

fn reduced(value: f32, lane: u32, want_largest: bool) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            let other = partial[lane + half];
            partial[lane] = select(partial[lane] + other, max(partial[lane], other), want_largest);
        }
        workgroupBarrier();
    }
    return partial[0];
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.x;
    let split = group.y;
    let sharing = params.heads / params.kv_heads;
    let kv_head = head / sharing;
    let past = step.past;
    let k_base = (params.heads + kv_head) * HEAD_QUADS;
    let v_base = (params.heads + params.kv_heads + kv_head) * HEAD_QUADS;
    let new_row = (past * params.kv_heads + kv_head) * HEAD_QUADS;
    for (var quad = lane; quad < HEAD_QUADS; quad += LANES) {
        query[quad] = rotated_quad(head * HEAD_QUADS, quad) * params.scale;
        let key = rotated_quad(k_base, quad);
        new_k[quad] = key;
        if (split == 0u && head % sharing == 0u) {
            k[new_row + quad] = key;
            v[new_row + quad] = qkv[v_base + quad];
        }
    }
    workgroupBarrier();

    let share = (past + SPLITS - 1u) / SPLITS;
    let first = min(split * share, past);
    let end = min(first + share, past);
    let slices = LANES / HEAD_QUADS;   // invocations that share one quad of channels, each with its own keys
    let slice = lane / HEAD_QUADS;
    let quad = lane % HEAD_QUADS;
    let own = split == 0u;
    var own_score = 0.0;
    for (var d = 0u; d < HEAD_QUADS; d++) { own_score += dot(query[d], new_k[d]); }
    var largest = select(NEVER, own_score, own);
    var sum = select(0.0, 1.0, own);
    var acc = select(vec4f(0.0), qkv[v_base + quad], own && slice == 0u);
    let row_quads = params.kv_heads * HEAD_QUADS;
    for (var start = first; start < end; start += LANES) {
        let count = min(LANES, end - start);
        var s = NEVER;
        if (lane < count) {
            let at = (start + lane) * row_quads + kv_head * HEAD_QUADS;
            s = 0.0;
            for (var d = 0u; d < HEAD_QUADS; d++) { s += dot(query[d], k[at + d]); }
        }
        let block_largest = max(largest, reduced(s, lane, true));
        let p = select(0.0, exp(s - block_largest), lane < count);
        weights[lane] = p;
        let correction = exp(largest - block_largest);
        largest = block_largest;
        sum = sum * correction + reduced(p, lane, false);
        acc *= correction;
        if (slice < slices) {
            let at = start * row_quads + kv_head * HEAD_QUADS + quad;
            var j = slice;
            // Four at a time: their loads are under way together.
            for (; j + 3u * slices < count; j += 4u * slices) {
                let v0 = weights[j] * v[at + j * row_quads];
                let v1 = weights[j + slices] * v[at + (j + slices) * row_quads];
                let v2 = weights[j + 2u * slices] * v[at + (j + 2u * slices) * row_quads];
                let v3 = weights[j + 3u * slices] * v[at + (j + 3u * slices) * row_quads];
                acc += (v0 + v1) + (v2 + v3);
            }
            for (; j < count; j += slices) { acc += weights[j] * v[at + j * row_quads]; }
        }
        workgroupBarrier();
    }
    sums[lane] = acc;
    workgroupBarrier();
    var whole = sums[lane % HEAD_QUADS];
    for (var i = 1u; i < slices; i++) { whole += sums[i * HEAD_QUADS + lane % HEAD_QUADS]; }
    workgroupBarrier();
    if (lane < HEAD_QUADS) {
        sums[lane] = whole;
        out[(split * params.heads + head) * HEAD_QUADS + lane] = whole;
    }
    let place = split * params.heads + head;
    if (lane == 0u) {
        out[SPLITS * params.heads * HEAD_QUADS + place] = vec4f(largest, sum, 0.0, 0.0);
    }
    workgroupBarrier();
    // Groups of invocations share a unit's channels, as many as there are.
    for (var unit0 = 0u; unit0 < params.next_units; unit0 += LANES) {
        let width = min(LANES, params.next_units - unit0);
        let sharers = min(LANES / width, HEAD_QUADS);
        let sharer = lane / width;
        var part = 0.0;
        if (sharer < sharers) {
            // Units past the rank are never used: any row will do.
            let unit = min(unit0 + lane % width, params.next_rank - 1u);
            let row = params.a0 / 4u + (unit * params.heads + head) * HEAD_QUADS;
            for (var d = sharer; d < HEAD_QUADS; d += sharers) { part += dot(adapter[row + d], sums[d]); }
        }
        partial[lane] = part;
        workgroupBarrier();
        if (lane < width) {
            var total = partial[lane];
            for (var i = 1u; i < sharers; i++) { total += partial[i * width + lane]; }
            parts[params.parts_out + place * params.next_units + unit0 + lane] = total;
        }
        workgroupBarrier();
    }
}
