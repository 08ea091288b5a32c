// The linear layers of one token's way through a layer, five dispatches with decode_attention.wgsl, adapter or not:
//   embed:         x = embedding of the token
//   norm_linear:   y = W (x * rstd * gain) + B u                                       q, k and v; the lm_head
//   norm_swiglu:   h = silu(gate) * up,  gate and up = W (x * rstd * gain) + B u
//   add_linear:    y = x + W h + B u                                                   down
//   add_attended:  the same for o, whose input is what decode_attention left: SPLITS weighted sums for every head
// with u = scale * A input. What A gives is known only when the whole input is, and waiting for it would be a dispatch of
// its own. So whoever makes a few channels of an input adds up A's share of those at once, its "part" of u, and whoever
// needs u adds the parts. An input that is normed later has its gain in A already; rstd, one number, comes last.
// `parts` holds (workgroups, units) of this and of all other layers; units = LAYER_QUADS vectors of ranks for each of the
// layers that share the input. `adapter` is what decode_pack.wgsl made of A and B.
// With HELPERS a workgroup has as many more invocations: they add parts and multiply them by B while the first LANES
// multiply the weights, so that an adapter costs what it computes and not what it waits for. A token is one long chain of
// waiting, for memory and for code too: what is needed is asked for at once, and the code is short.
// COLUMNS results a workgroup (norm_swiglu: as many of gate and of up); its invocations split the sums, which are fixed
// trees: same input, same bits. Widths are multiples of COLUMNS, but for the lm_head's.
struct Params {
    columns: u32, inner: u32, eps: f32, parts_in: u32, parts_out: u32, b_in: u32, a_out: u32, start1: u32, start2: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(3) var<storage, read> x: array<vec4f>;        // the input
@group(0) @binding(4) var<storage, read> residual: array<vec4f>;
@group(0) @binding(5) var<storage, read> adapter: array<vec4f>;
@group(0) @binding(6) var<storage, read> gain: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> parts: array<vec4f>;
@group(0) @binding(9) var<storage, read> token: array<u32>;

const COLUMNS = 8u;
const ALL = LANES + HELPERS;
const VECTORS = WIDE / 4u;  // of four results each; WIDE = COLUMNS, or twice as many in norm_swiglu
const FIRST = 64u;          // vectors that the first round of adding up leaves, and the second
const SECOND = 4u * VECTORS;
const TAKEN = max(WIDE / COLUMNS * LAYER_QUADS, 1u);    // vectors of units that a workgroup takes, of PARTS_QUADS in all
const SHARERS = HELPERS / TAKEN;                        // helpers that share one of them
const OWN_QUADS = max(LAYER_QUADS, 1u);
var<workgroup> tree: array<vec4f, ALL * VECTORS>;   // by invocation, then by vector
var<workgroup> squares: array<f32, LANES>;
var<workgroup> split_weights: array<f32, SPLIT_WEIGHTS>;

// ---------------------------------------------------------------------------------------------------- the weights

// Results 0-3, 4-7 and so on of a workgroup.
struct Results { s0: vec4f, s1: vec4f, s2: vec4f, s3: vec4f }
struct Words { w0: vec4u, w1: vec4u, w2: vec4u, w3: vec4u }

fn four_words(row: u32, last: u32, quad: u32, quads: u32) -> Words {
    return Words(weight_words(min(row, last), quad, quads), weight_words(min(row + 1u, last), quad, quads),
                 weight_words(min(row + 2u, last), quad, quads), weight_words(min(row + 3u, last), quad, quads));
}

fn four_dots(a: vec4f, words: Words, quad: u32) -> vec4f {
    return vec4f(dot(a, weight_values(words.w0, quad)), dot(a, weight_values(words.w1, quad)),
                 dot(a, weight_values(words.w2, quad)), dot(a, weight_values(words.w3, quad)));
}

// ---------------------------------------------------------------------------------------------------- the adapter

// The next A of a helper's four units, at the columns made here.
struct Ahead {
    near0: vec4f, far0: vec4f, near1: vec4f, far1: vec4f, near2: vec4f, far2: vec4f, near3: vec4f, far3: vec4f,
}

fn fetch_ahead(helper: u32, workgroup: u32) -> Ahead {
    let at = params.a_out / 4u + (workgroup * NEXT_QUADS + helper) * 8u;
    return Ahead(adapter[at], adapter[at + 1u], adapter[at + 2u], adapter[at + 3u], adapter[at + 4u], adapter[at + 5u],
                 adapter[at + 6u], adapter[at + 7u]);
}

fn part_weight(p: u32) -> f32 {
    if (ATTENTION) { return select(0.0, split_weights[min(p, NUM_PARTS - 1u)], p < NUM_PARTS); }
    return select(0.0, 1.0, p < NUM_PARTS);
}

// A helper's vector of u, or its share of that: every SHARERS-th part. Those past the last sharer have none.
fn share_of_u(helper: u32, unit_quad: u32) -> vec4f {
    let at = params.parts_in / 4u + unit_quad;
    let last = NUM_PARTS - 1u;
    let sharer = helper / TAKEN;
    var sum = vec4f(0.0);
    for (var p = select(sharer, NUM_PARTS, sharer >= SHARERS); p < NUM_PARTS; p += FETCHED * SHARERS) {
        let p0 = parts[at + p * PARTS_QUADS];
        let p1 = parts[at + min(p + SHARERS, last) * PARTS_QUADS];
        let p2 = parts[at + min(p + 2u * SHARERS, last) * PARTS_QUADS];
        let p3 = parts[at + min(p + 3u * SHARERS, last) * PARTS_QUADS];
        if (FETCHED > 4u) {
            let p4 = parts[at + min(p + 4u * SHARERS, last) * PARTS_QUADS];
            let p5 = parts[at + min(p + 5u * SHARERS, last) * PARTS_QUADS];
            let p6 = parts[at + min(p + 6u * SHARERS, last) * PARTS_QUADS];
            let p7 = parts[at + min(p + 7u * SHARERS, last) * PARTS_QUADS];
            sum += (part_weight(p + 4u * SHARERS) * p4 + part_weight(p + 5u * SHARERS) * p5)
                 + (part_weight(p + 6u * SHARERS) * p6 + part_weight(p + 7u * SHARERS) * p7);
        }
        sum += (part_weight(p) * p0 + part_weight(p + SHARERS) * p1)
             + (part_weight(p + 2u * SHARERS) * p2 + part_weight(p + 3u * SHARERS) * p3);
    }
    return step.strength * sum;
}

// A helper's share of B u.
fn share_of_b_u(helper: u32, workgroup: u32) -> Results {
    let column0 = workgroup * COLUMNS;
    let of_up = WIDE > COLUMNS && helper % TAKEN >= OWN_QUADS;
    let quad = helper % OWN_QUADS;
    let own_layer = select(0u, 1u, column0 >= params.start1) + select(0u, 1u, column0 >= params.start2);
    let layer = select(own_layer, select(0u, 1u, of_up), WIDE > COLUMNS);
    let block = workgroup + select(0u, params.columns / COLUMNS, of_up);
    let at = params.b_in / 4u + block * COLUMNS * LAYER_QUADS + quad;
    let b0 = adapter[at];
    let b1 = adapter[at + LAYER_QUADS];
    let b2 = adapter[at + 2u * LAYER_QUADS];
    let b3 = adapter[at + 3u * LAYER_QUADS];
    let b4 = adapter[at + 4u * LAYER_QUADS];
    let b5 = adapter[at + 5u * LAYER_QUADS];
    let b6 = adapter[at + 6u * LAYER_QUADS];
    let b7 = adapter[at + 7u * LAYER_QUADS];
    let u = share_of_u(helper, layer * LAYER_QUADS + quad);
    let near = vec4f(dot(b0, u), dot(b1, u), dot(b2, u), dot(b3, u));
    let far = vec4f(dot(b4, u), dot(b5, u), dot(b6, u), dot(b7, u));
    if (WIDE == COLUMNS) { return Results(near, far, vec4f(0.0), vec4f(0.0)); }
    let none = vec4f(0.0);
    return Results(select(near, none, of_up), select(far, none, of_up), select(none, near, of_up), select(none, far, of_up));
}

// The next layers' A over the channels made here.
fn leave_part(helper: u32, workgroup: u32, ahead: Ahead, near: vec4f, far: vec4f) {
    parts[params.parts_out / 4u + workgroup * NEXT_QUADS + helper] =
        vec4f(dot(ahead.near0, near) + dot(ahead.far0, far), dot(ahead.near1, near) + dot(ahead.far1, far),
              dot(ahead.near2, near) + dot(ahead.far2, far), dot(ahead.near3, near) + dot(ahead.far3, far));
}

// Whether this invocation leaves a part: the first helpers do, one for each vector of units.
fn leaves(lane: u32) -> bool { return lane >= LANES && lane - LANES < NEXT_QUADS; }

// ---------------------------------------------------------------------------------------------------- adding up

// Adds every invocation's results, and squares if there is a NORM, in three rounds of which `result` is the last.
fn add_up(lane: u32, results: Results) {
    tree[lane * VECTORS] = results.s0;
    tree[lane * VECTORS + 1u] = results.s1;
    if (VECTORS > 2u) {
        tree[lane * VECTORS + 2u] = results.s2;
        tree[lane * VECTORS + 3u] = results.s3;
    }
    workgroupBarrier();
    if (lane < FIRST) {
        var sum = tree[lane];
        for (var i = lane + FIRST; i < ALL * VECTORS; i += FIRST) { sum += tree[i]; }
        tree[lane] = sum;
    } else if (NORM && lane < FIRST + 8u) {
        var square = squares[lane - FIRST];
        for (var i = lane - FIRST + 8u; i < LANES; i += 8u) { square += squares[i]; }
        squares[lane - FIRST] = square;
    }
    workgroupBarrier();
    if (lane < SECOND) {
        var sum = tree[lane];
        for (var i = lane + SECOND; i < FIRST; i += SECOND) { sum += tree[i]; }
        tree[lane] = sum;
    }
    workgroupBarrier();
}

fn result(vector: u32) -> vec4f {
    return (tree[vector] + tree[vector + VECTORS]) + (tree[vector + 2u * VECTORS] + tree[vector + 3u * VECTORS]);
}

fn rstd() -> f32 {
    let square = ((squares[0] + squares[1]) + (squares[2] + squares[3]))
               + ((squares[4] + squares[5]) + (squares[6] + squares[7]));
    return inverseSqrt(square / f32(params.inner) + params.eps);
}

fn store(column0: u32, lane: u32, near: vec4f, far: vec4f) {
    if (lane < COLUMNS && column0 + lane < params.columns) { y[column0 + lane] = select(near, far, lane >= 4u)[lane % 4u]; }
}

// ---------------------------------------------------------------------------------------------------- the entries

@compute @workgroup_size(ALL)
fn embed(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.columns / 4u;
    let near = weight_quad(token[0], column0 / 4u, quads);
    let far = weight_quad(token[0], column0 / 4u + 1u, quads);
    store(column0, lane, near, far);
    if (leaves(lane)) { leave_part(lane - LANES, group.x, fetch_ahead(lane - LANES, group.x), near, far); }
}

@compute @workgroup_size(ALL)
fn norm_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
               @builtin(num_workgroups) groups: vec3u) {
    let workgroup = group.y * groups.x + group.x;
    let column0 = workgroup * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    var results: Results;
    if (lane < LANES) {
        var square = 0.0;
        for (var trip = 0u; trip < TRIPS; trip++) {
            let quad = min(lane + trip * LANES, quads - 1u);
            let value = x[quad] * select(0.0, 1.0, lane + trip * LANES < quads);
            let own_gain = gain[quad];
            let near = four_words(column0, last, quad, quads);
            let far = four_words(column0 + 4u, last, quad, quads);
            let a = value * own_gain;
            square += dot(value, value);
            results.s0 += four_dots(a, near, quad);
            results.s1 += four_dots(a, far, quad);
        }
        squares[lane] = square;
    } else if (HELPERS > 0u) {
        results = share_of_b_u(lane - LANES, workgroup);
    }
    add_up(lane, results);
    if (lane < COLUMNS) {
        let r = rstd();
        store(column0, lane, r * result(0u), r * result(1u));
    }
}

@compute @workgroup_size(ALL)
fn norm_swiglu(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let channels = params.columns;
    let last = 2u * channels - 1u;
    var results: Results;
    var ahead: Ahead;
    if (lane < LANES) {
        var square = 0.0;
        for (var trip = 0u; trip < TRIPS; trip++) {
            let quad = min(lane + trip * LANES, quads - 1u);
            let value = x[quad] * select(0.0, 1.0, lane + trip * LANES < quads);
            let own_gain = gain[quad];
            let gate_near = four_words(column0, last, quad, quads);
            let gate_far = four_words(column0 + 4u, last, quad, quads);
            let up_near = four_words(channels + column0, last, quad, quads);
            let up_far = four_words(channels + column0 + 4u, last, quad, quads);
            let a = value * own_gain;
            square += dot(value, value);
            results.s0 += four_dots(a, gate_near, quad);
            results.s1 += four_dots(a, gate_far, quad);
            results.s2 += four_dots(a, up_near, quad);
            results.s3 += four_dots(a, up_far, quad);
        }
        squares[lane] = square;
    } else if (HELPERS > 0u) {
        if (leaves(lane)) { ahead = fetch_ahead(lane - LANES, group.x); }
        if (LAYER_QUADS > 0u) { results = share_of_b_u(lane - LANES, group.x); }
    }
    add_up(lane, results);
    if (lane < COLUMNS || leaves(lane)) {
        let r = rstd();
        let gate_near = r * result(0u);
        let gate_far = r * result(1u);
        let near = gate_near / (1.0 + exp(-gate_near)) * (r * result(2u));
        let far = gate_far / (1.0 + exp(-gate_far)) * (r * result(3u));
        store(column0, lane, near, far);
        if (leaves(lane)) { leave_part(lane - LANES, group.x, ahead, near, far); }
    }
}

@compute @workgroup_size(ALL)
fn add_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    var results: Results;
    var ahead: Ahead;
    let near_before = residual[2u * group.x];
    let far_before = residual[2u * group.x + 1u];
    if (lane < LANES) {
        for (var trip = 0u; trip < TRIPS; trip++) {
            let quad = min(lane + trip * LANES, quads - 1u);
            let near = four_words(column0, last, quad, quads);
            let far = four_words(column0 + 4u, last, quad, quads);
            let a = x[quad] * select(0.0, 1.0, lane + trip * LANES < quads);
            results.s0 += four_dots(a, near, quad);
            results.s1 += four_dots(a, far, quad);
        }
    } else if (HELPERS > 0u) {
        if (leaves(lane)) { ahead = fetch_ahead(lane - LANES, group.x); }
        if (LAYER_QUADS > 0u) { results = share_of_b_u(lane - LANES, group.x); }
    }
    add_up(lane, results);
    if (lane < COLUMNS || leaves(lane)) {
        let near = near_before + result(0u);
        let far = far_before + result(1u);
        store(column0, lane, near, far);
        if (leaves(lane)) { leave_part(lane - LANES, group.x, ahead, near, far); }
    }
}

// How much each split's sum counts: decode_attention leaves, behind the sums, its largest score and sum of weights.
fn weigh_splits(lane: u32, quads: u32) {
    for (var head = lane; head < HEADS; head += ALL) {
        var largest = -3.0e38;
        for (var s = 0u; s < SPLITS; s++) { largest = max(largest, x[SPLITS * quads + s * HEADS + head].x); }
        var total = 0.0;
        for (var s = 0u; s < SPLITS; s++) {
            let found = x[SPLITS * quads + s * HEADS + head];
            let weight = exp(found.x - largest);
            total += weight * found.y;
            split_weights[s * HEADS + head] = weight;
        }
        for (var s = 0u; s < SPLITS; s++) { split_weights[s * HEADS + head] /= total; }
    }
    workgroupBarrier();
}

@compute @workgroup_size(ALL)
fn add_attended(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    var results: Results;
    var ahead: Ahead;
    let near_before = residual[2u * group.x];
    let far_before = residual[2u * group.x + 1u];
    weigh_splits(lane, quads);
    if (lane < LANES) {
        for (var trip = 0u; trip < TRIPS; trip++) {
            let quad = min(lane + trip * LANES, quads - 1u);
            let near = four_words(column0, last, quad, quads);
            let far = four_words(column0 + 4u, last, quad, quads);
            let head = quad / HEAD_QUADS;
            var a = vec4f(0.0);
            for (var s = 0u; s < SPLITS; s++) { a += split_weights[s * HEADS + head] * x[s * quads + quad]; }
            a *= select(0.0, 1.0, lane + trip * LANES < quads);
            results.s0 += four_dots(a, near, quad);
            results.s1 += four_dots(a, far, quad);
        }
    } else if (HELPERS > 0u) {
        if (leaves(lane)) { ahead = fetch_ahead(lane - LANES, group.x); }
        if (LAYER_QUADS > 0u) { results = share_of_b_u(lane - LANES, group.x); }
    }
    add_up(lane, results);
    if (lane < COLUMNS || leaves(lane)) {
        let near = near_before + result(0u);
        let far = far_before + result(1u);
        store(column0, lane, near, far);
        if (leaves(lane)) { leave_part(lane - LANES, group.x, ahead, near, far); }
    }
}
