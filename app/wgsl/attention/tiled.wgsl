// attention for GPUs: the contract of attention/plain.wgsl, by tiles of TILE queries x TILE keys in workgroup memory.
// What bounds it is reading that memory, so an invocation makes a patch: scores of 4 queries x 4 keys from a quarter of the
// quads, or 4 rows x QUADS quads of the result from a quarter of the keys. A patch takes every GROUPS-th row, key and quad,
// which keeps neighbours in different banks; a vec4 of scores are those keys: c, c + GROUPS, c + 2 GROUPS, c + 3 GROUPS.
// HEAD_QUADS = D / 4 and TILE (32, 16 or 8) are given by the op; a workgroup is TILE * TILE / 4 invocations.
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
const GROUPS = TILE / 4u;
const PATCHES = GROUPS * GROUPS;
const LANES = 4u * PATCHES;                     // four share a patch
const PITCH = HEAD_QUADS + 1u;                  // one quad more: rows begin in different banks
const SCORE_PITCH = GROUPS + 1u;                // likewise
const TILE_SIZE = TILE * PITCH;
const QUADS = (HEAD_QUADS + GROUPS - 1u) / GROUPS;     // of a row, of those who share it
const DEPTH = (HEAD_QUADS + 3u) / 4u;                   // quads of a quarter
var<workgroup> tiles: array<vec4f, 3u * TILE_SIZE>;                 // queries, keys, values
var<workgroup> scores: array<vec4f, 4u * TILE * SCORE_PITCH>;       // by quarter; then weights, in the first
var<workgroup> row_parts: array<f32, TILE * SCORE_PITCH>;
var<workgroup> corrections: array<f32, TILE>;

// The first key that the query at `last` sees: its segment's, or the window's.
fn first_seen(last: u32, position: u32) -> u32 {
    return max(last - position, last + 1u - min(params.window, last + 1u));
}

fn is_quad(quad: u32) -> bool { return HEAD_QUADS % GROUPS == 0u || quad < HEAD_QUADS; }

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let past = select(0u, step.past, params.cached == 1u);
    let query0 = (groups.x - 1u - group.x) * TILE;  // the longest first: the short ones fill the gaps at the end
    let head = group.y;
    let batch = group.z;
    let kv_head = head / (params.heads / params.kv_heads);
    let share = lane / PATCHES;
    let group0 = lane % PATCHES / GROUPS;
    let group1 = lane % GROUPS;
    // Weighing, an invocation has four scores of one row.
    let row = lane / GROUPS;
    let t = query0 + row;
    let safe_t = min(t, params.length - 1u);
    let last = past + safe_t;
    let first = first_seen(last, positions[batch * params.length + safe_t]);
    let begin = first_seen(past + query0, positions[batch * params.length + query0]);
    let end = past + min(query0 + TILE, params.length);

    let q_at = ((batch * params.length + safe_t) * params.heads + head) * HEAD_QUADS;
    var next_k: array<vec4f, QUADS>;
    var next_v: array<vec4f, QUADS>;
    let first_at = ((batch * params.length + min(begin + row, end - 1u)) * params.kv_heads + kv_head) * HEAD_QUADS;
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * GROUPS + group1;
        if (!is_quad(quad)) { continue; }
        tiles[row * PITCH + quad] = q[q_at + quad] * params.scale;
        next_k[i] = k[first_at + quad];
        next_v[i] = v[first_at + quad];
    }
    var acc0: array<vec4f, QUADS>;
    var acc1: array<vec4f, QUADS>;
    var acc2: array<vec4f, QUADS>;
    var acc3: array<vec4f, QUADS>;
    var largest = NEVER;
    var sum = 0.0;      // of the weights of every GROUPS-th key of the row
    for (var start = begin; start < end; start += TILE) {
        workgroupBarrier();
        // The next keys and values are asked for as soon as these are stored.
        let next_key = min(start + TILE + row, end - 1u);
        let next_at = ((batch * params.length + next_key) * params.kv_heads + kv_head) * HEAD_QUADS;
        for (var i = 0u; i < QUADS; i++) {
            let quad = i * GROUPS + group1;
            if (!is_quad(quad)) { continue; }
            tiles[TILE_SIZE + row * PITCH + quad] = next_k[i];
            tiles[2u * TILE_SIZE + row * PITCH + quad] = next_v[i];
            next_k[i] = k[next_at + quad];
            next_v[i] = v[next_at + quad];
        }
        workgroupBarrier();
        var s0 = vec4f(0.0);
        var s1 = vec4f(0.0);
        var s2 = vec4f(0.0);
        var s3 = vec4f(0.0);
        for (var i = 0u; i < DEPTH; i++) {
            let d = share + 4u * i;
            if (HEAD_QUADS % 4u != 0u && d >= HEAD_QUADS) { continue; }
            let at = group0 * PITCH + d;
            let k_at = TILE_SIZE + group1 * PITCH + d;
            let k0 = tiles[k_at];
            let k1 = tiles[k_at + GROUPS * PITCH];
            let k2 = tiles[k_at + 2u * GROUPS * PITCH];
            let k3 = tiles[k_at + 3u * GROUPS * PITCH];
            let q0 = tiles[at];
            let q1 = tiles[at + GROUPS * PITCH];
            let q2 = tiles[at + 2u * GROUPS * PITCH];
            let q3 = tiles[at + 3u * GROUPS * PITCH];
            s0 += vec4f(dot(q0, k0), dot(q0, k1), dot(q0, k2), dot(q0, k3));
            s1 += vec4f(dot(q1, k0), dot(q1, k1), dot(q1, k2), dot(q1, k3));
            s2 += vec4f(dot(q2, k0), dot(q2, k1), dot(q2, k2), dot(q2, k3));
            s3 += vec4f(dot(q3, k0), dot(q3, k1), dot(q3, k2), dot(q3, k3));
        }
        let score_at = (share * TILE + group0) * SCORE_PITCH + group1;
        scores[score_at] = s0;
        scores[score_at + GROUPS * SCORE_PITCH] = s1;
        scores[score_at + 2u * GROUPS * SCORE_PITCH] = s2;
        scores[score_at + 3u * GROUPS * SCORE_PITCH] = s3;
        workgroupBarrier();
        let own = row * SCORE_PITCH + group1;
        let whole = (scores[own] + scores[own + TILE * SCORE_PITCH])
                  + (scores[own + 2u * TILE * SCORE_PITCH] + scores[own + 3u * TILE * SCORE_PITCH]);
        let keys = vec4u(start + group1) + vec4u(0u, GROUPS, 2u * GROUPS, 3u * GROUPS);
        let seen = (keys >= vec4u(first)) & (keys <= vec4u(last));
        let masked = select(vec4f(NEVER), capped_four(whole), seen);
        row_parts[own] = max(max(masked.x, masked.y), max(masked.z, masked.w));
        workgroupBarrier();
        var tile_largest = largest;
        for (var i = 0u; i < GROUPS; i++) { tile_largest = max(tile_largest, row_parts[row * SCORE_PITCH + i]); }
        let correction = exp(largest - tile_largest);
        largest = tile_largest;
        let weights = select(vec4f(0.0), exp(masked - largest), seen);
        sum = sum * correction + ((weights.x + weights.y) + (weights.z + weights.w));
        scores[own] = weights;
        if (group1 == 0u) { corrections[row] = correction; }
        workgroupBarrier();
        let c0 = corrections[group0];
        let c1 = corrections[group0 + GROUPS];
        let c2 = corrections[group0 + 2u * GROUPS];
        let c3 = corrections[group0 + 3u * GROUPS];
        for (var i = 0u; i < QUADS; i++) {
            acc0[i] *= c0;
            acc1[i] *= c1;
            acc2[i] *= c2;
            acc3[i] *= c3;
        }
        for (var part = 0u; part < (GROUPS + 3u) / 4u; part++) {
            let keys_at = share + 4u * part;
            if (GROUPS % 4u != 0u && keys_at >= GROUPS) { continue; }
            let w_at = group0 * SCORE_PITCH + keys_at;
            let w0 = scores[w_at];
            let w1 = scores[w_at + GROUPS * SCORE_PITCH];
            let w2 = scores[w_at + 2u * GROUPS * SCORE_PITCH];
            let w3 = scores[w_at + 3u * GROUPS * SCORE_PITCH];
            for (var i = 0u; i < QUADS; i++) {
                let v_at = 2u * TILE_SIZE + keys_at * PITCH + min(i * GROUPS + group1, HEAD_QUADS - 1u);
                let v0 = tiles[v_at];
                let v1 = tiles[v_at + GROUPS * PITCH];
                let v2 = tiles[v_at + 2u * GROUPS * PITCH];
                let v3 = tiles[v_at + 3u * GROUPS * PITCH];
                acc0[i] += (w0.x * v0 + w0.y * v1) + (w0.z * v2 + w0.w * v3);
                acc1[i] += (w1.x * v0 + w1.y * v1) + (w1.z * v2 + w1.w * v3);
                acc2[i] += (w2.x * v0 + w2.y * v1) + (w2.z * v2 + w2.w * v3);
                acc3[i] += (w3.x * v0 + w3.y * v1) + (w3.z * v2 + w3.w * v3);
            }
        }
    }
    // The quarters of the keys are added up where the tiles were.
    workgroupBarrier();
    row_parts[row * SCORE_PITCH + group1] = sum;
    let to = (max(share, 1u) - 1u) * TILE_SIZE + group0 * PITCH;
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * GROUPS + group1;
        if (share > 0u && is_quad(quad)) {
            tiles[to + quad] = acc0[i];
            tiles[to + GROUPS * PITCH + quad] = acc1[i];
            tiles[to + 2u * GROUPS * PITCH + quad] = acc2[i];
            tiles[to + 3u * GROUPS * PITCH + quad] = acc3[i];
        }
    }
    workgroupBarrier();
    if (share == 0u) {
        let near = group0;
        finish(query0, near, head, batch, group1, acc0);
        finish(query0, near + GROUPS, head, batch, group1, acc1);
        finish(query0, near + 2u * GROUPS, head, batch, group1, acc2);
        finish(query0, near + 3u * GROUPS, head, batch, group1, acc3);
    }
    if (group1 == 0u && t < params.length) {
        lse[(batch * params.length + t) * params.heads + head] = largest + log(row_sum(row));
    }
}

fn row_sum(row: u32) -> f32 {
    var sum = row_parts[row * SCORE_PITCH];
    for (var i = 1u; i < GROUPS; i++) { sum += row_parts[row * SCORE_PITCH + i]; }
    return sum;
}

// Writes a patch's row of the result: its own quarter's sums and the other three.
fn finish(query0: u32, row: u32, head: u32, batch: u32, group1: u32, acc: array<vec4f, QUADS>) {
    let t = query0 + row;
    let index = (batch * params.length + t) * params.heads + head;
    let sum = row_sum(row);
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * GROUPS + group1;
        if (t < params.length && is_quad(quad)) {
            let at = row * PITCH + quad;
            let whole = (acc[i] + tiles[at]) + (tiles[at + TILE_SIZE] + tiles[at + 2u * TILE_SIZE]);
            out[index * HEAD_QUADS + quad] = whole / sum;
        }
    }
}
