// attention of one new token, from its raw q, k and v to what add_linear of decode/layer.wgsl takes in:
//   q and k are turned by the token's angles (rope), k and v join the caches, and every head attends to rows 0 .. past.
// qkv: (H * D + 2 * Hkv * D)   table: (positions, D / 2) of (cos, sin)   k, v: caches (length, Hkv * D)
// out: SPLITS x (H * D) sums of weighted values, then H x SPLITS of (largest score, sum of weights)
// left: (SPLITS * H, UNITS): A of the layer that comes next, over each of those sums; adapter: (H, UNITS, D), see
// decode/layer.wgsl and decode/pack.wgsl.
// One workgroup for a head and a split of the cached keys, BLOCK keys at a time; the first split takes the token's own
// key too. A split without a key leaves zeros and a score that weighs nothing.
struct Params { heads: u32, kv_heads: u32, scale: f32, a_out: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(3) var<storage, read> table: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> k: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(6) var<storage, read> adapter: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> left: array<f32>;

const NEVER = -3.0e38;
const HALF = HEAD_QUADS / 2u;
const BLOCK = 64u;                      // keys
const PARTS = 8u;                       // invocations that make a key's score together
const TOGETHER = LANES / PARTS;         // keys whose scores are made at once
const SLICES = LANES / HEAD_QUADS;      // invocations that share one quad of channels, each with its own keys
const WIDTH = max(UNITS, 1u);
const SHARERS = min(LANES / WIDTH, HEAD_QUADS);     // invocations that share one unit's part
var<workgroup> query: array<vec4f, HEAD_QUADS>;
var<workgroup> own_parts: array<f32, HEAD_QUADS>;   // of the own key's score
var<workgroup> score_parts: array<f32, BLOCK * (PARTS + 1u)>;   // one more than PARTS a key spreads the banks
var<workgroup> scores: array<vec4f, BLOCK / 4u>;
var<workgroup> sums: array<vec4f, LANES>;
var<workgroup> slice_sums: array<f32, SLICES>;
var<workgroup> unit_parts: array<f32, LANES>;
var<workgroup> kept: array<vec4f, 2u * select(1u, LANES, UNITS > 0u)>;  // A, fetched ahead as in decode/layer.wgsl

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

// A part of the score of the key whose vectors begin at `at`, of which two are at hand.
fn score_part(at: u32, part: u32, first: vec4f, second: vec4f) -> f32 {
    var sum = 0.0;
    if (part < HEAD_QUADS) { sum = dot(query[part], first); }
    if (part + PARTS < HEAD_QUADS) { sum += dot(query[part + PARTS], second); }
    for (var d = part + 2u * PARTS; d < HEAD_QUADS; d += PARTS) { sum += dot(query[d], k[at + d]); }
    return sum;
}

fn whole_score(key: u32) -> f32 {
    let at = key * (PARTS + 1u);
    return ((score_parts[at] + score_parts[at + 1u]) + (score_parts[at + 2u] + score_parts[at + 3u]))
         + ((score_parts[at + 4u] + score_parts[at + 5u]) + (score_parts[at + 6u] + score_parts[at + 7u]));
}

fn weight(key: u32, count: u32, largest: f32) -> f32 {
    return select(0.0, exp(scores[min(key, BLOCK - 1u) / 4u][key % 4u] - largest), key < count);
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
    let row_quads = params.kv_heads * HEAD_QUADS;
    let share = (past + SPLITS - 1u) / SPLITS;
    let first = min(split * share, past);
    let end = min(first + share, past);
    // What is needed of the first keys is asked for now, before anything is known.
    let part = lane % PARTS;
    let quad0 = kv_head * HEAD_QUADS + min(part, HEAD_QUADS - 1u);
    let quad1 = kv_head * HEAD_QUADS + min(part + PARTS, HEAD_QUADS - 1u);
    let early_row = min(first + lane / PARTS, max(end, 1u) - 1u) * row_quads;
    var early0 = k[early_row + quad0];
    var early1 = k[early_row + quad1];
    for (var d = lane; d < HEAD_QUADS; d += LANES) {
        let turned = rotated_quad(head * HEAD_QUADS, d) * params.scale;
        let key = rotated_quad(k_base, d);
        query[d] = turned;
        own_parts[d] = dot(turned, key);
        if (split == 0u && head % sharing == 0u) {
            k[new_row + d] = key;
            v[new_row + d] = qkv[v_base + d];
        }
    }
    if (UNITS > 0u) {
        kept[2u * lane] = a0;
        kept[2u * lane + 1u] = a1;
    }
    workgroupBarrier();

    let own = split == 0u;
    var own_score = own_parts[0];
    for (var d = 1u; d < HEAD_QUADS; d++) { own_score += own_parts[d]; }
    var largest = select(NEVER, own_score, own);
    var sum = select(0.0, 1.0, own && slice == 0u);     // of the slice's weights
    var acc = select(vec4f(0.0), new_v, own && slice == 0u);
    for (var start = first; start < end; start += BLOCK) {
        let count = min(BLOCK, end - start);
        let at = start * row_quads + kv_head * HEAD_QUADS;
        // The block's first values are asked for now, and weighed when their scores are known.
        let v0 = v[at + min(slice, count - 1u) * row_quads + quad];
        let v1 = v[at + min(slice + SLICES, count - 1u) * row_quads + quad];
        let v2 = v[at + min(slice + 2u * SLICES, count - 1u) * row_quads + quad];
        let v3 = v[at + min(slice + 3u * SLICES, count - 1u) * row_quads + quad];
        let key0 = lane / PARTS;
        if (key0 < count) {
            score_parts[key0 * (PARTS + 1u) + part] = score_part(at + key0 * row_quads, part, early0, early1);
        }
        for (var key = key0 + TOGETHER; key < count; key += TOGETHER) {
            let row = (start + key) * row_quads;
            score_parts[key * (PARTS + 1u) + part] = score_part(at + key * row_quads, part, k[row + quad0], k[row + quad1]);
        }
        if (start + BLOCK < end) {
            let next_row = min(start + BLOCK + key0, end - 1u) * row_quads;
            early0 = k[next_row + quad0];
            early1 = k[next_row + quad1];
        }
        workgroupBarrier();
        if (lane < BLOCK) { scores[lane / 4u][lane % 4u] = select(NEVER, whole_score(lane), lane < count); }
        workgroupBarrier();
        var most = scores[0];
        for (var i = 1u; i < BLOCK / 4u; i++) { most = max(most, scores[i]); }
        let block_largest = max(max(largest, max(most.x, most.y)), max(most.z, most.w));
        let correction = exp(largest - block_largest);
        largest = block_largest;
        let w0 = weight(slice, count, largest);
        let w1 = weight(slice + SLICES, count, largest);
        let w2 = weight(slice + 2u * SLICES, count, largest);
        let w3 = weight(slice + 3u * SLICES, count, largest);
        sum = sum * correction + ((w0 + w1) + (w2 + w3));
        acc = acc * correction + ((w0 * v0 + w1 * v1) + (w2 * v2 + w3 * v3));
        for (var j = slice + 4u * SLICES; j < count; j += 4u * SLICES) {
            let v4 = v[at + j * row_quads + quad];
            let v5 = v[at + min(j + SLICES, count - 1u) * row_quads + quad];
            let v6 = v[at + min(j + 2u * SLICES, count - 1u) * row_quads + quad];
            let v7 = v[at + min(j + 3u * SLICES, count - 1u) * row_quads + quad];
            let w4 = weight(j, count, largest);
            let w5 = weight(j + SLICES, count, largest);
            let w6 = weight(j + 2u * SLICES, count, largest);
            let w7 = weight(j + 3u * SLICES, count, largest);
            sum += (w4 + w5) + (w6 + w7);
            acc += (w4 * v4 + w5 * v5) + (w6 * v6 + w7 * v7);
        }
    }
    // Invocations past the last slice have the same keys as others, of some other slice's weights: they do not count.
    sums[lane] = select(vec4f(0.0), acc, slice < SLICES);
    if (quad == 0u && slice < SLICES) { slice_sums[slice] = sum; }
    workgroupBarrier();
    let place = split * params.heads + head;
    if (lane < HEAD_QUADS) {
        var whole = sums[lane];
        for (var i = 1u; i < SLICES; i++) { whole += sums[i * HEAD_QUADS + lane]; }
        sums[lane] = whole;
        out[place * HEAD_QUADS + lane] = whole;
    }
    if (lane < 2u) {
        var total = slice_sums[0];
        for (var i = 1u; i < SLICES; i++) { total += slice_sums[i]; }
        let found = SPLITS * params.heads * HEAD_QUADS + (head * SPLITS + split) / 2u;
        out[found][split % 2u * 2u + lane] = select(largest, total, lane == 1u);
    }
    if (UNITS > 0u) {
        workgroupBarrier();
        var part = 0.0;
        if (sharer < SHARERS) {
            part = dot(kept[2u * lane], sums[sharer]);
            if (sharer + SHARERS < HEAD_QUADS) { part += dot(kept[2u * lane + 1u], sums[sharer + SHARERS]); }
            for (var d = sharer + 2u * SHARERS; d < HEAD_QUADS; d += SHARERS) { part += dot(adapter[a_row + d], sums[d]); }
        }
        unit_parts[lane] = part;
        workgroupBarrier();
        if (lane < UNITS) {
            var total = unit_parts[lane];
            for (var i = 1u; i < SHARERS; i++) { total += unit_parts[i * WIDTH + lane]; }
            left[place * UNITS + lane] = total;
        }
    }
}
