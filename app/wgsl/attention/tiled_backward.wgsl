// attention's backward for GPUs: the contract of attention/plain_backward.wgsl, by tiles and patches as in attention/tiled.wgsl,
// but backward_kv leaves the share of each query head, dk_heads and dv_heads (rows, H * D); sum_heads adds up those that
// share a key and value head, in order: dk and dv (rows, Hkv * D).
// Half of a workgroup makes the scores q . k, the other half dout . v, each invocation a patch of 4 queries x 4 keys over half
// of the quads; two that share a patch then give each other two rows of it.
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
@group(0) @binding(9) var<storage, read_write> dk_heads: array<vec4f>;
@group(0) @binding(10) var<storage, read_write> dv_heads: array<vec4f>;
@group(0) @binding(2) var<storage, read> k_heads: array<vec4f>;
@group(0) @binding(3) var<storage, read> v_heads: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> dv: array<vec4f>;

const GROUPS = TILE / 4u;
const PATCHES = GROUPS * GROUPS;
const LANES = 4u * PATCHES;
const PITCH = HEAD_QUADS + 1u;
const SCORE_PITCH = GROUPS + 1u;
const TILE_SIZE = TILE * PITCH;
const SCORES_SIZE = TILE * SCORE_PITCH;
const QUADS = (HEAD_QUADS + GROUPS - 1u) / GROUPS;     // of a row, of those who share it
var<workgroup> tiles: array<vec4f, 4u * TILE_SIZE>;         // q, dout, k, v
var<workgroup> scores: array<vec4f, 2u * SCORES_SIZE>;      // p and ds, by row
var<workgroup> rows: array<vec4f, TILE>;                    // of each query, see row_of

// The first key that the query at `last` sees: its segment's, or the window's.
fn first_seen(last: u32, position: u32) -> u32 {
    return max(last - position, last + 1u - min(params.window, last + 1u));
}

fn is_quad(quad: u32) -> bool { return HEAD_QUADS % GROUPS == 0u || quad < HEAD_QUADS; }

// What an invocation fetches of two tiles: QUADS quads of a row of each.
struct Fetched { first: array<vec4f, QUADS>, second: array<vec4f, QUADS> }

fn fetch_queries(start: u32, base: u32, head: u32, lane: u32) -> Fetched {
    let query = base + min(start + lane / GROUPS, params.length - 1u);
    let at = (query * params.heads + head) * HEAD_QUADS;
    var fetched: Fetched;
    for (var i = 0u; i < QUADS; i++) {
        let quad = min(i * GROUPS + lane % GROUPS, HEAD_QUADS - 1u);
        fetched.first[i] = q[at + quad];
        fetched.second[i] = dout[at + quad];
    }
    return fetched;
}

fn fetch_keys(start: u32, base: u32, kv_head: u32, lane: u32) -> Fetched {
    let key = base + min(start + lane / GROUPS, params.length - 1u);
    let at = (key * params.kv_heads + kv_head) * HEAD_QUADS;
    var fetched: Fetched;
    for (var i = 0u; i < QUADS; i++) {
        let quad = min(i * GROUPS + lane % GROUPS, HEAD_QUADS - 1u);
        fetched.first[i] = k[at + quad];
        fetched.second[i] = v[at + quad];
    }
    return fetched;
}

// Puts them into two tiles, of which `tile` is the first.
fn put(tile: u32, lane: u32, fetched: Fetched) {
    let at = tile * TILE_SIZE + lane / GROUPS * PITCH;
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * GROUPS + lane % GROUPS;
        if (!is_quad(quad)) { continue; }
        tiles[at + quad] = fetched.first[i];
        tiles[at + TILE_SIZE + quad] = fetched.second[i];
    }
}

// What the scores of query t need: its first key, its last, lse and delta; one that is not there has no key.
fn row_of(t: u32, base: u32, head: u32) -> vec4f {
    let safe_t = min(t, params.length - 1u);
    let own = statistics[(base + safe_t) * params.heads + head];
    let last = select(-1.0, f32(safe_t), t < params.length);
    return vec4f(f32(first_seen(safe_t, positions[base + safe_t])), last, own.x, own.y);
}

fn weights_of(row: vec4f, keys: vec4f, score: vec4f) -> vec4f {
    let seen = (keys >= vec4f(row.x)) & (keys <= vec4f(row.y));
    return select(vec4f(0.0), exp(capped_four(score * params.scale) - row.z), seen);
}

// The slope of the cap, from the weights that the capped scores gave: y = log(p) + lse. Where p is 0 it does not matter.
fn slope_of(p: vec4f, row: vec4f) -> vec4f {
    if (CAP > 0.0) { return slope_at_four(log(max(p, vec4f(1.0e-38))) + row.z); }
    return vec4f(1.0);
}

// Makes p and ds of the loaded queries and keys (from `key0`).
fn make_scores(key0: u32, lane: u32) {
    let product = lane / (2u * PATCHES);    // 0: q . k, 1: dout . v
    let half = lane / PATCHES % 2u;
    let group0 = lane % PATCHES / GROUPS;
    let group1 = lane % GROUPS;
    // An invocation ends with two of the patch's rows, and gives the other two away.
    let kept = group0 + half * 2u * GROUPS;
    let given = group0 + (1u - half) * 2u * GROUPS;
    let near = rows[kept];
    let far = rows[kept + GROUPS];
    var s0 = vec4f(0.0);
    var s1 = vec4f(0.0);
    var s2 = vec4f(0.0);
    var s3 = vec4f(0.0);
    for (var i = 0u; i < (HEAD_QUADS + 1u) / 2u; i++) {
        let d = half + 2u * i;
        if (HEAD_QUADS % 2u != 0u && d >= HEAD_QUADS) { continue; }
        let a_at = product * TILE_SIZE + group0 * PITCH + d;
        let b_at = (2u + product) * TILE_SIZE + group1 * PITCH + d;
        let b0 = tiles[b_at];
        let b1 = tiles[b_at + GROUPS * PITCH];
        let b2 = tiles[b_at + 2u * GROUPS * PITCH];
        let b3 = tiles[b_at + 3u * GROUPS * PITCH];
        let a0 = tiles[a_at];
        let a1 = tiles[a_at + GROUPS * PITCH];
        let a2 = tiles[a_at + 2u * GROUPS * PITCH];
        let a3 = tiles[a_at + 3u * GROUPS * PITCH];
        s0 += vec4f(dot(a0, b0), dot(a0, b1), dot(a0, b2), dot(a0, b3));
        s1 += vec4f(dot(a1, b0), dot(a1, b1), dot(a1, b2), dot(a1, b3));
        s2 += vec4f(dot(a2, b0), dot(a2, b1), dot(a2, b2), dot(a2, b3));
        s3 += vec4f(dot(a3, b0), dot(a3, b1), dot(a3, b2), dot(a3, b3));
    }
    let layer = product * SCORES_SIZE;
    let given_at = layer + given * SCORE_PITCH + group1;
    scores[given_at] = select(s0, s2, half == 0u);
    scores[given_at + GROUPS * SCORE_PITCH] = select(s1, s3, half == 0u);
    workgroupBarrier();
    let p_at = kept * SCORE_PITCH + group1;
    let near_score = select(s2, s0, half == 0u) + scores[layer + p_at];
    let far_score = select(s3, s1, half == 0u) + scores[layer + p_at + GROUPS * SCORE_PITCH];
    if (product == 0u) {
        let keys = f32(key0 + group1) + vec4f(vec4u(0u, GROUPS, 2u * GROUPS, 3u * GROUPS));
        scores[p_at] = weights_of(near, keys, near_score);
        scores[p_at + GROUPS * SCORE_PITCH] = weights_of(far, keys, far_score);
    }
    workgroupBarrier();
    if (product == 1u) {
        let ds_at = SCORES_SIZE + p_at;
        let near_p = scores[p_at];
        let far_p = scores[p_at + GROUPS * SCORE_PITCH];
        scores[ds_at] = params.scale * near_p * (near_score - near.w) * slope_of(near_p, near);
        scores[ds_at + GROUPS * SCORE_PITCH] = params.scale * far_p * (far_score - far.w) * slope_of(far_p, far);
    }
    workgroupBarrier();
}

// Leaves a patch of a result, four rows of QUADS quads each, where a tile was.
fn leave(tile: u32, group0: u32, group1: u32, acc0: array<vec4f, QUADS>, acc1: array<vec4f, QUADS>,
         acc2: array<vec4f, QUADS>, acc3: array<vec4f, QUADS>) {
    let at = tile * TILE_SIZE + group0 * PITCH;
    for (var i = 0u; i < QUADS; i++) {
        let quad = i * GROUPS + group1;
        if (is_quad(quad)) {
            tiles[at + quad] = acc0[i];
            tiles[at + GROUPS * PITCH + quad] = acc1[i];
            tiles[at + 2u * GROUPS * PITCH + quad] = acc2[i];
            tiles[at + 3u * GROUPS * PITCH + quad] = acc3[i];
        }
    }
}

@compute @workgroup_size(LANES)
fn backward_q(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
              @builtin(num_workgroups) groups: vec3u) {
    let head = group.y;
    let base = group.z * params.length;
    let kv_head = head / (params.heads / params.kv_heads);
    let share = lane / PATCHES;
    let group0 = lane % PATCHES / GROUPS;
    let group1 = lane % GROUPS;
    let query0 = (groups.x - 1u - group.x) * TILE;
    let begin = query0 - positions[base + query0];
    let end = min(query0 + TILE, params.length);
    put(0u, lane, fetch_queries(query0, base, head, lane));
    if (lane < TILE) { rows[lane] = row_of(query0 + lane, base, head); }
    var next = fetch_keys(begin, base, kv_head, lane);
    var acc0: array<vec4f, QUADS>;
    var acc1: array<vec4f, QUADS>;
    var acc2: array<vec4f, QUADS>;
    var acc3: array<vec4f, QUADS>;
    for (var start = begin; start < end; start += TILE) {
        workgroupBarrier();
        put(2u, lane, next);
        next = fetch_keys(start + TILE, base, kv_head, lane);   // asked for as soon as these are stored
        workgroupBarrier();
        make_scores(start, lane);
        for (var part = 0u; part < (GROUPS + 3u) / 4u; part++) {
            let keys_at = share + 4u * part;
            if (GROUPS % 4u != 0u && keys_at >= GROUPS) { continue; }
            let ds_at = SCORES_SIZE + group0 * SCORE_PITCH + keys_at;
            let ds0 = scores[ds_at];
            let ds1 = scores[ds_at + GROUPS * SCORE_PITCH];
            let ds2 = scores[ds_at + 2u * GROUPS * SCORE_PITCH];
            let ds3 = scores[ds_at + 3u * GROUPS * SCORE_PITCH];
            for (var i = 0u; i < QUADS; i++) {
                let k_at = 2u * TILE_SIZE + keys_at * PITCH + min(i * GROUPS + group1, HEAD_QUADS - 1u);
                let k0 = tiles[k_at];
                let k1 = tiles[k_at + GROUPS * PITCH];
                let k2 = tiles[k_at + 2u * GROUPS * PITCH];
                let k3 = tiles[k_at + 3u * GROUPS * PITCH];
                acc0[i] += (ds0.x * k0 + ds0.y * k1) + (ds0.z * k2 + ds0.w * k3);
                acc1[i] += (ds1.x * k0 + ds1.y * k1) + (ds1.z * k2 + ds1.w * k3);
                acc2[i] += (ds2.x * k0 + ds2.y * k1) + (ds2.z * k2 + ds2.w * k3);
                acc3[i] += (ds3.x * k0 + ds3.y * k1) + (ds3.z * k2 + ds3.w * k3);
            }
        }
    }
    // The quarters of the keys are added up where the tiles were.
    workgroupBarrier();
    leave(share, group0, group1, acc0, acc1, acc2, acc3);
    workgroupBarrier();
    for (var i = lane; i < TILE * HEAD_QUADS; i += LANES) {
        let row = i / HEAD_QUADS;
        let at = row * PITCH + i % HEAD_QUADS;
        if (query0 + row < params.length) {
            let index = ((base + query0 + row) * params.heads + head) * HEAD_QUADS + i % HEAD_QUADS;
            dq[index] = (tiles[at] + tiles[at + TILE_SIZE]) + (tiles[at + 2u * TILE_SIZE] + tiles[at + 3u * TILE_SIZE]);
        }
    }
}

@compute @workgroup_size(LANES)
fn backward_kv(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let base = group.z * params.length;
    let product = lane / (2u * PATCHES);    // 0: dk from ds and q, 1: dv from p and dout
    let half = lane / PATCHES % 2u;         // of the queries
    let group0 = lane % PATCHES / GROUPS;   // of keys
    let group1 = lane % GROUPS;
    let key0 = group.x * TILE;
    put(2u, lane, fetch_keys(key0, base, head / (params.heads / params.kv_heads), lane));
    var next = fetch_queries(key0, base, head, lane);
    var next_row = row_of(key0 + lane % TILE, base, head);
    var acc0: array<vec4f, QUADS>;
    var acc1: array<vec4f, QUADS>;
    var acc2: array<vec4f, QUADS>;
    var acc3: array<vec4f, QUADS>;
    let last_key = min(key0 + TILE, params.length) - 1u;
    // Only queries from the first key of this workgroup on, as far as the segment of its last one, see any of them.
    for (var start = key0; start < params.length; start += TILE) {
        if (first_seen(start, positions[base + start]) > last_key) { break; }
        workgroupBarrier();
        put(0u, lane, next);
        if (lane < TILE) { rows[lane] = next_row; }
        next = fetch_queries(start + TILE, base, head, lane);
        next_row = row_of(start + TILE + lane % TILE, base, head);
        workgroupBarrier();
        make_scores(key0, lane);
        for (var pair = 0u; pair < TILE / 2u; pair++) {
            let j = 2u * pair + half;
            let w = scores[(1u - product) * SCORES_SIZE + j * SCORE_PITCH + group0];
            for (var i = 0u; i < QUADS; i++) {
                let x = tiles[product * TILE_SIZE + j * PITCH + min(i * GROUPS + group1, HEAD_QUADS - 1u)];
                acc0[i] += w.x * x;
                acc1[i] += w.y * x;
                acc2[i] += w.z * x;
                acc3[i] += w.w * x;
            }
        }
    }
    workgroupBarrier();
    leave(2u * half + product, group0, group1, acc0, acc1, acc2, acc3);
    workgroupBarrier();
    for (var i = lane; i < TILE * HEAD_QUADS; i += LANES) {
        let row = i / HEAD_QUADS;
        let at = row * PITCH + i % HEAD_QUADS;
        if (key0 + row < params.length) {
            let index = ((base + key0 + row) * params.heads + head) * HEAD_QUADS + i % HEAD_QUADS;
            dk_heads[index] = tiles[at] + tiles[at + 2u * TILE_SIZE];
            dv_heads[index] = tiles[at + TILE_SIZE] + tiles[at + 3u * TILE_SIZE];
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
