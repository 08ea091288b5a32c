// attention of one new token, from its raw q, k and v to what add_attended of decode.wgsl takes in:
//   q and k are turned by the token's angles (rope), k and v join the caches, and every head attends to rows 0 .. past.
// qkv: (H * D + 2 * Hkv * D)   table: (positions, D / 2) of (cos, sin)   k, v: caches (length, Hkv * D)
// out: SPLITS x (H * D) sums of weighted values, then SPLITS x H of (largest score, sum of weights, 0, 0)
// parts: (SPLITS * H, UNITS): A of the layer that comes next, over each of those sums; adapter: (H, UNITS, D), see
// decode.wgsl and decode_pack.wgsl.
// One workgroup for a head and a split of the cached keys, BLOCK keys at a time; the first split takes the token's own
// key too. A split without a key leaves zeros and a score that weighs nothing.
struct Params { heads: u32, kv_heads: u32, scale: f32, parts_out: u32, a_out: u32 }
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
const BLOCK = 64u;                      // keys
const TOGETHER = LANES / 8u;            // keys whose scores are made together, each by eight invocations
const SLICES = LANES / HEAD_QUADS;      // invocations that share one quad of channels, each with its own keys
const WIDTH = max(UNITS, 1u);
const SHARERS = min(LANES / WIDTH, HEAD_QUADS);     // invocations that share one unit's part
var<workgroup> query: array<vec4f, HEAD_QUADS>;
var<workgroup> new_k: array<vec4f, HEAD_QUADS>;
var<workgroup> score_parts: array<f32, BLOCK * 9u>;  // one more than eight a key spreads the banks
var<workgroup> weights: array<vec4f, BLOCK / 4u>;
var<workgroup> sums: array<vec4f, LANES>;
var<workgroup> unit_parts: array<f32, LANES>;

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

// An eighth of the score of the key whose vectors begin at `at`.
fn score_part(at: u32, part: u32) -> f32 {
    var sum = 0.0;
    for (var d = part; d < HEAD_QUADS; d += 8u) { sum += dot(query[d], k[at + d]); }
    return sum;
}

fn whole_score(key: u32, count: u32) -> f32 {
    let at = key * 9u;
    let sum = ((score_parts[at] + score_parts[at + 1u]) + (score_parts[at + 2u] + score_parts[at + 3u]))
            + ((score_parts[at + 4u] + score_parts[at + 5u]) + (score_parts[at + 6u] + score_parts[at + 7u]));
    return select(NEVER, sum, key < count);
}

fn weight_of(key: u32) -> f32 { return select(0.0, weights[min(key, BLOCK - 1u) / 4u][key % 4u], key < BLOCK); }

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
    // The adapter is needed last, and known from the start.
    let unit = lane % WIDTH;
    let sharer = lane / WIDTH;
    let a_row = params.a_out / 4u + (head * WIDTH + unit) * HEAD_QUADS;
    var a0 = vec4f(0.0);
    var a1 = vec4f(0.0);
    if (UNITS > 0u) {
        a0 = adapter[a_row + min(sharer, HEAD_QUADS - 1u)];
        a1 = adapter[a_row + min(sharer + SHARERS, HEAD_QUADS - 1u)];
    }
    let quad = lane % HEAD_QUADS;
    let slice = lane / HEAD_QUADS;
    let new_v = qkv[v_base + quad];
    for (var d = lane; d < HEAD_QUADS; d += LANES) {
        query[d] = rotated_quad(head * HEAD_QUADS, d) * params.scale;
        let key = rotated_quad(k_base, d);
        new_k[d] = key;
        if (split == 0u && head % sharing == 0u) {
            k[new_row + d] = key;
            v[new_row + d] = qkv[v_base + d];
        }
    }
    workgroupBarrier();

    let share = (past + SPLITS - 1u) / SPLITS;
    let first = min(split * share, past);
    let end = min(first + share, past);
    let own = split == 0u;
    var own_score = 0.0;
    for (var d = 0u; d < HEAD_QUADS; d++) { own_score += dot(query[d], new_k[d]); }
    var largest = select(NEVER, own_score, own);
    var sum = select(0.0, 1.0, own);
    var acc = select(vec4f(0.0), new_v, own && slice == 0u);
    let row_quads = params.kv_heads * HEAD_QUADS;
    for (var start = first; start < end; start += BLOCK) {
        let count = min(BLOCK, end - start);
        let at = start * row_quads + kv_head * HEAD_QUADS;
        // The block's first values are asked for now, and weighed when their scores are known.
        let v0 = v[at + min(slice, count - 1u) * row_quads + quad];
        let v1 = v[at + min(slice + SLICES, count - 1u) * row_quads + quad];
        let v2 = v[at + min(slice + 2u * SLICES, count - 1u) * row_quads + quad];
        let v3 = v[at + min(slice + 3u * SLICES, count - 1u) * row_quads + quad];
        for (var key = lane / 8u; key < BLOCK; key += TOGETHER) {
            score_parts[key * 9u + lane % 8u] = score_part(at + min(key, count - 1u) * row_quads, lane % 8u);
        }
        workgroupBarrier();
        if (lane < BLOCK / 4u) {
            weights[lane] = vec4f(whole_score(4u * lane, count), whole_score(4u * lane + 1u, count),
                                  whole_score(4u * lane + 2u, count), whole_score(4u * lane + 3u, count));
        }
        workgroupBarrier();
        var most = weights[0];
        for (var i = 1u; i < BLOCK / 4u; i++) { most = max(most, weights[i]); }
        let block_largest = max(max(largest, max(most.x, most.y)), max(most.z, most.w));
        let scores = weights[min(lane, BLOCK / 4u - 1u)];
        workgroupBarrier();
        if (lane < BLOCK / 4u) {
            weights[lane] = select(vec4f(0.0), exp(scores - block_largest), scores > vec4f(NEVER));
        }
        workgroupBarrier();
        var total = weights[0];
        for (var i = 1u; i < BLOCK / 4u; i++) { total += weights[i]; }
        let correction = exp(largest - block_largest);
        largest = block_largest;
        sum = sum * correction + ((total.x + total.y) + (total.z + total.w));
        acc = acc * correction + ((weight_of(slice) * v0 + weight_of(slice + SLICES) * v1)
                                  + (weight_of(slice + 2u * SLICES) * v2 + weight_of(slice + 3u * SLICES) * v3));
        for (var j = slice + 4u * SLICES; j < count; j += 4u * SLICES) {
            let w0 = v[at + j * row_quads + quad];
            let w1 = v[at + min(j + SLICES, count - 1u) * row_quads + quad];
            let w2 = v[at + min(j + 2u * SLICES, count - 1u) * row_quads + quad];
            let w3 = v[at + min(j + 3u * SLICES, count - 1u) * row_quads + quad];
            acc += (weight_of(j) * w0 + weight_of(j + SLICES) * w1)
                 + (weight_of(j + 2u * SLICES) * w2 + weight_of(j + 3u * SLICES) * w3);
        }
    }
    // Invocations past the last slice have the same keys as others, of some other slice's weights: they do not count.
    sums[lane] = select(vec4f(0.0), acc, slice < SLICES);
    workgroupBarrier();
    let place = split * params.heads + head;
    if (lane < HEAD_QUADS) {
        var whole = sums[lane];
        for (var i = 1u; i < SLICES; i++) { whole += sums[i * HEAD_QUADS + lane]; }
        sums[lane] = whole;
        out[place * HEAD_QUADS + lane] = whole;
    }
    if (lane == 0u) { out[SPLITS * params.heads * HEAD_QUADS + place] = vec4f(largest, sum, 0.0, 0.0); }
    if (UNITS > 0u) {
        workgroupBarrier();
        var part = 0.0;
        if (sharer < SHARERS) {
            part = dot(a0, sums[sharer]);
            if (sharer + SHARERS < HEAD_QUADS) { part += dot(a1, sums[sharer + SHARERS]); }
            for (var d = sharer + 2u * SHARERS; d < HEAD_QUADS; d += SHARERS) { part += dot(adapter[a_row + d], sums[d]); }
        }
        unit_parts[lane] = part;
        workgroupBarrier();
        if (lane < UNITS) {
            var total = unit_parts[lane];
            for (var i = 1u; i < SHARERS; i++) { total += unit_parts[i * WIDTH + lane]; }
            parts[params.parts_out + place * UNITS + lane] = total;
        }
    }
}
