// The linear layers of one token's way through a layer, five dispatches with decode/attention.wgsl, adapter or not:
//   embed:         x = embedding of the token
//   norm_linear:   y = W (x * rstd * gain) + B u                                       q, k and v; the lm_head
//   norm_swiglu:   h = silu(gate) * up,  gate and up = W (x * rstd * gain) + B u
//   add_linear:    y = x + W h + B u                                                   down; o
// o's input (ATTENTION) is what decode_attention left: SPLITS weighted sums for every head, each with its largest score
// and its sum of weights.
// with u = scale * A input. What A gives is known only when the whole input is, and waiting for it would be a dispatch of
// its own. So whoever makes a few channels of an input adds up A's share of those at once, its "part" of u, and whoever
// needs u adds the parts. An input that is normed later has its gain in A already; rstd, one number, comes last.
// `parts` and `left` are (workgroups, units): what was left for this kernel, and what it leaves; units = LAYER_QUADS vectors
// of ranks for each of the layers that share the input. `adapter` is what decode/pack.wgsl made of A and B.
// With HELPERS a workgroup has as many more invocations: they add parts and multiply them by B while the first LANES
// multiply the weights, so that an adapter costs what it computes and not what it waits for. A token is one long chain of
// waiting, for memory and for code too: what is needed is asked for at once, and the code is short.
// COLUMNS results a workgroup (norm_swiglu: as many of gate and of up); its invocations split the sums, which are fixed
// trees: same input, same bits. Widths are multiples of COLUMNS, but for the lm_head's. norm_linear makes the results from
// `first` to `columns` - 1, those whose weights are stored in one form: the weight has rows for these alone.
struct Params {
    columns: u32, inner: u32, eps: f32, b_in: u32, a_out: u32, start1: u32, start2: u32, first: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(3) var<storage, read> x: array<vec4f>;        // the input
@group(0) @binding(4) var<storage, read> residual: array<vec4f>;
@group(0) @binding(5) var<storage, read> adapter: array<vec4f>;
@group(0) @binding(6) var<storage, read> gain: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read> parts: array<vec4f>;
@group(0) @binding(9) var<storage, read_write> left: array<f32>;
@group(0) @binding(10) var<storage, read> token: array<u32>;

const COLUMNS = 8u;
const SPLITS = 8u;
const ALL = LANES + HELPERS;
const VECTORS = WIDE / 4u;  // of four results each; WIDE = COLUMNS, or twice as many in norm_swiglu
const ROWS = select(32u, 64u, ALL % 64u == 0u && ALL >= 384u);  // what the first round of adding up leaves: results of
const FIRST = ROWS * VECTORS;                                   // so many, in so many vectors; and the second
const SECOND = FIRST / 8u;
const TAKEN = max(WIDE / COLUMNS * LAYER_QUADS, 1u);    // vectors of units that a workgroup takes, of PARTS_QUADS in all
const SHARERS = HELPERS / TAKEN;                        // helpers that share one of them
const OWN_QUADS = max(LAYER_QUADS, 1u);
const KEPT = clamp(NEXT_UNITS, 1u, max(HELPERS, 1u));   // units whose A is fetched before it is needed
var<workgroup> tree: array<vec4f, ALL * VECTORS>;   // by invocation, then by vector
var<workgroup> squares: array<f32, LANES>;
var<workgroup> kept: array<vec4f, 2u * KEPT>;

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

// ---------------------------------------------------------------------------------------------------- attention's result

// What each split found.
struct Splits { s0: vec4f, s1: vec4f, s2: vec4f, s3: vec4f, s4: vec4f, s5: vec4f, s6: vec4f, s7: vec4f }

// The sum of what a head's splits found, each as much as its keys weigh in the whole. They are compared by everyone who
// needs them: to wait for one who does it for all would take longer.
fn weighted(splits: Splits, head: u32) -> vec4f {
    let at = SPLITS * params.inner / 4u + head * SPLITS / 2u;
    let found0 = x[at];         // (largest score, sum of weights) of two splits
    let found1 = x[at + 1u];
    let found2 = x[at + 2u];
    let found3 = x[at + 3u];
    let scores0 = vec4f(found0.xz, found1.xz);
    let scores1 = vec4f(found2.xz, found3.xz);
    let most = max(scores0, scores1);
    let largest = max(max(most.x, most.y), max(most.z, most.w));
    let weights0 = exp(scores0 - largest);
    let weights1 = exp(scores1 - largest);
    let total = dot(weights0, vec4f(found0.yw, found1.yw)) + dot(weights1, vec4f(found2.yw, found3.yw));
    let sum = ((weights0.x * splits.s0 + weights0.y * splits.s1) + (weights0.z * splits.s2 + weights0.w * splits.s3))
            + ((weights1.x * splits.s4 + weights1.y * splits.s5) + (weights1.z * splits.s6 + weights1.w * splits.s7));
    return sum / total;
}

fn input_quad(quad: u32, quads: u32) -> vec4f {
    if (!ATTENTION) { return x[quad]; }
    let splits = Splits(x[quad], x[quads + quad], x[2u * quads + quad], x[3u * quads + quad], x[4u * quads + quad],
                        x[5u * quads + quad], x[6u * quads + quad], x[7u * quads + quad]);
    return weighted(splits, quad / HEAD_QUADS);
}

// ---------------------------------------------------------------------------------------------------- the adapter

// The next A of one unit, at the columns made here.
struct Ahead { near: vec4f, far: vec4f }

fn fetch_ahead(unit: u32, workgroup: u32) -> Ahead {
    let at = params.a_out / 4u + (workgroup * NEXT_UNITS + unit) * 2u;
    return Ahead(adapter[at], adapter[at + 1u]);
}

fn keep(helper: u32, ahead: Ahead) {
    kept[2u * helper] = ahead.near;
    kept[2u * helper + 1u] = ahead.far;
}

// A helper's vector of u, or its share of that: every SHARERS-th part. Those past the last sharer have none.
fn share_of_u(helper: u32, unit_quad: u32) -> vec4f {
    let last = NUM_PARTS - 1u;
    let sharer = helper / TAKEN;
    var sum = vec4f(0.0);
    for (var p = select(sharer, NUM_PARTS, sharer >= SHARERS); p < NUM_PARTS; p += FETCHED * SHARERS) {
        let p0 = parts[unit_quad + p * PARTS_QUADS];
        let p1 = parts[unit_quad + min(p + SHARERS, last) * PARTS_QUADS];
        let p2 = parts[unit_quad + min(p + 2u * SHARERS, last) * PARTS_QUADS];
        let p3 = parts[unit_quad + min(p + 3u * SHARERS, last) * PARTS_QUADS];
        if (FETCHED > 4u) {
            let p4 = parts[unit_quad + min(p + 4u * SHARERS, last) * PARTS_QUADS];
            let p5 = parts[unit_quad + min(p + 5u * SHARERS, last) * PARTS_QUADS];
            let p6 = parts[unit_quad + min(p + 6u * SHARERS, last) * PARTS_QUADS];
            let p7 = parts[unit_quad + min(p + 7u * SHARERS, last) * PARTS_QUADS];
            sum += (if_part(p + 4u * SHARERS, p4) + if_part(p + 5u * SHARERS, p5))
                 + (if_part(p + 6u * SHARERS, p6) + if_part(p + 7u * SHARERS, p7));
        }
        sum += (if_part(p, p0) + if_part(p + SHARERS, p1)) + (if_part(p + 2u * SHARERS, p2) + if_part(p + 3u * SHARERS, p3));
    }
    return step.strength * sum;
}

fn if_part(p: u32, value: vec4f) -> vec4f { return select(0.0, 1.0, p < NUM_PARTS) * value; }

// The same of what decode_attention left, the parts of every SHARERS-th head.
fn share_of_attended_u(helper: u32, unit_quad: u32) -> vec4f {
    let sharer = helper / TAKEN;
    var sum = vec4f(0.0);
    for (var head = select(sharer, HEADS, sharer >= SHARERS); head < HEADS; head += SHARERS) {
        let at = unit_quad + head * PARTS_QUADS;
        let stride = HEADS * PARTS_QUADS;
        let parts_of_head = Splits(parts[at], parts[at + stride], parts[at + 2u * stride], parts[at + 3u * stride],
            parts[at + 4u * stride], parts[at + 5u * stride], parts[at + 6u * stride], parts[at + 7u * stride]);
        sum += weighted(parts_of_head, head);
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
    var u: vec4f;
    if (ATTENTION) { u = share_of_attended_u(helper, quad); } else { u = share_of_u(helper, layer * LAYER_QUADS + quad); }
    let near = vec4f(dot(b0, u), dot(b1, u), dot(b2, u), dot(b3, u));
    let far = vec4f(dot(b4, u), dot(b5, u), dot(b6, u), dot(b7, u));
    if (WIDE == COLUMNS) { return Results(near, far, vec4f(0.0), vec4f(0.0)); }
    let none = vec4f(0.0);
    return Results(select(near, none, of_up), select(far, none, of_up), select(none, near, of_up), select(none, far, of_up));
}

// The next layers' A over the channels made here, each helper a unit of it. The first one's A is at hand, in workgroup
// memory: compilers put off a read into registers until its value is needed, and the wait for it with it.
fn leave_part(helper: u32, workgroup: u32, near: vec4f, far: vec4f) {
    let ahead = Ahead(kept[2u * helper], kept[2u * helper + 1u]);
    left[workgroup * NEXT_UNITS + helper] = dot(ahead.near, near) + dot(ahead.far, far);
    if (NEXT_UNITS > HELPERS) {
        for (var unit = helper + HELPERS; unit < NEXT_UNITS; unit += HELPERS) {
            let more = fetch_ahead(unit, workgroup);
            left[workgroup * NEXT_UNITS + unit] = dot(more.near, near) + dot(more.far, far);
        }
    }
}

// Whether this invocation leaves a part.
fn leaves(lane: u32) -> bool { return lane >= LANES && lane - LANES < NEXT_UNITS; }

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
        for (var i = 1u; i < ALL / ROWS; i++) { sum += tree[lane + i * FIRST]; }
        tree[lane] = sum;
    }
    let square_lane = lane - (ALL - 32u);   // the last 32, which have least else to do
    if (NORM && lane >= ALL - 32u) {
        var square = squares[square_lane];
        for (var i = 1u; i < LANES / 32u; i++) { square += squares[square_lane + i * 32u]; }
        squares[square_lane] = square;
    }
    workgroupBarrier();
    if (lane < SECOND) {
        var sum = tree[lane];
        for (var i = 1u; i < 8u; i++) { sum += tree[lane + i * SECOND]; }
        tree[lane] = sum;
    }
    if (NORM && lane >= ALL - 8u) {
        let at = lane - (ALL - 8u);
        squares[at] = (squares[at] + squares[at + 8u]) + (squares[at + 16u] + squares[at + 24u]);
    }
    workgroupBarrier();
}

fn result(vector: u32) -> vec4f {
    let sum = (tree[vector] + tree[vector + VECTORS]) + (tree[vector + 2u * VECTORS] + tree[vector + 3u * VECTORS]);
    if (ROWS == 32u) { return sum; }
    return sum + ((tree[vector + 4u * VECTORS] + tree[vector + 5u * VECTORS])
                  + (tree[vector + 6u * VECTORS] + tree[vector + 7u * VECTORS]));
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
    if (leaves(lane)) {
        keep(lane - LANES, fetch_ahead(lane - LANES, group.x));
        leave_part(lane - LANES, group.x, near, far);
    }
}

@compute @workgroup_size(ALL)
fn norm_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
               @builtin(num_workgroups) groups: vec3u) {
    let row0 = (group.y * groups.x + group.x) * COLUMNS;
    let column0 = params.first + row0;
    let quads = params.inner / 4u;
    let last = params.columns - params.first - 1u;
    var results: Results;
    if (lane < LANES) {
        var square = 0.0;
        for (var trip = 0u; trip < TRIPS; trip++) {
            let quad = min(lane + trip * LANES, quads - 1u);
            let value = x[quad] * select(0.0, 1.0, lane + trip * LANES < quads);
            let own_gain = gain[quad];
            let near = four_words(row0, last, quad, quads);
            let far = four_words(row0 + 4u, last, quad, quads);
            let a = value * own_gain;
            square += dot(value, value);
            results.s0 += four_dots(a, near, quad);
            results.s1 += four_dots(a, far, quad);
        }
        squares[lane] = square;
    } else if (HELPERS > 0u) {
        results = share_of_b_u(lane - LANES, column0 / COLUMNS);
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
        let ahead = fetch_ahead(min(lane - LANES, KEPT - 1u), group.x);
        if (LAYER_QUADS > 0u) { results = share_of_b_u(lane - LANES, group.x); }
        if (leaves(lane)) { keep(lane - LANES, ahead); }
    }
    add_up(lane, results);
    if (lane < COLUMNS || leaves(lane)) {
        let r = rstd();
        let gate_near = r * result(0u);
        let gate_far = r * result(1u);
        let near = gate_near / (1.0 + exp(-gate_near)) * (r * result(2u));
        let far = gate_far / (1.0 + exp(-gate_far)) * (r * result(3u));
        store(column0, lane, near, far);
        if (leaves(lane)) { leave_part(lane - LANES, group.x, near, far); }
    }
}

@compute @workgroup_size(ALL)
fn add_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    var results: Results;
    if (lane < LANES) {
        let near_before = residual[2u * group.x];
        let far_before = residual[2u * group.x + 1u];
        for (var trip = 0u; trip < TRIPS; trip++) {
            let quad = min(lane + trip * LANES, quads - 1u);
            let near = four_words(column0, last, quad, quads);
            let far = four_words(column0 + 4u, last, quad, quads);
            let a = input_quad(quad, quads) * select(0.0, 1.0, lane + trip * LANES < quads);
            results.s0 += four_dots(a, near, quad);
            results.s1 += four_dots(a, far, quad);
        }
        let first = select(0.0, 1.0, lane == 0u);
        results.s0 += first * near_before;
        results.s1 += first * far_before;
    } else if (HELPERS > 0u) {
        let ahead = fetch_ahead(min(lane - LANES, KEPT - 1u), group.x);
        if (LAYER_QUADS > 0u) { results = share_of_b_u(lane - LANES, group.x); }
        if (leaves(lane)) { keep(lane - LANES, ahead); }
    }
    add_up(lane, results);
    if (lane < COLUMNS || leaves(lane)) {
        let near = result(0u);
        let far = result(1u);
        store(column0, lane, near, far);
        if (leaves(lane)) { leave_part(lane - LANES, group.x, near, far); }
    }
}
