// The linear layers of one token's way through a layer, five dispatches with decode_attention.wgsl, adapter or not:
//   embed:        x = embedding of the token
//   norm_linear:  y = W (x * rstd * gain) + B u                                        q, k and v; the lm_head
//   norm_swiglu:  h = silu(gate) * up,  gate and up = W (x * rstd * gain) + B u
//   add_linear:   y = x + W h + B u                                                    o and down
// with u = scale * A input. What A gives is known only when the whole input is, and waiting for it would be a dispatch of
// its own. So whoever makes a few channels of an input adds up A's share of those at once, its "part" of u, and whoever
// needs u adds the parts. An input that is normed later has its gain in the parts already; rstd, one number, comes last.
// `parts` holds (workgroups, units) of this and of all other layers; units = rank x layers that share the input, rounded
// up to whole vectors. With an ADAPTER a workgroup has HELPERS more invocations: they fetch the parts, B and the next A
// while the first LANES multiply the weights, so that an adapter costs what it computes and not what it waits for.
// With ATTENTION the input of add_linear is what decode_attention left: SPLITS weighted sums of values for every head.
// COLUMNS results a workgroup; its invocations split the sums, which are fixed trees: same input, same bits.
struct Params {
    columns: u32, inner: u32, eps: f32,
    rank: u32, units: u32, scale: f32, parts_in: u32, num_parts: u32,              // of u
    start1: u32, start2: u32, b0: u32, b1: u32, b2: u32,                           // where each layer and its B begin
    next_rank: u32, next_layers: u32, next_units: u32, parts_out: u32, a0: u32, a1: u32, a2: u32,    // of the next input's u
    next_norm: u32, heads: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(3) var<storage, read> x: array<vec4f>;        // the input
@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read> adapter: array<vec4f>;
@group(0) @binding(6) var<storage, read> gain: array<vec4f>;     // of the norm before this, or (add_linear, embed) after it
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> parts: array<vec4f>;
@group(0) @binding(9) var<storage, read> token: array<u32>;

const COLUMNS = 8u;
const NONE = 0xffffffffu;   // in place of an A or a B: this layer has no adapter
const ALL = LANES + HELPERS;
var<workgroup> tree: array<vec4f, ALL * VECTORS>;   // by vector of four results, then by invocation
var<workgroup> squares: array<f32, LANES>;
var<workgroup> sums: array<vec4f, HELPERS + 1>;     // the helpers' shares of u
var<workgroup> u: array<f32, UNITS>;                // u, then this workgroup's part of the next one
var<workgroup> made: array<f32, COLUMNS>;
var<workgroup> split_weights: array<f32, SPLIT_WEIGHTS>;

// What a helper fetches before anything is known: B of this workgroup's columns for one rank (near and far columns, for
// norm_swiglu of gate and of up), and two vectors of a row of the next A with the next norm's gains.
struct Fetched { b0: vec4f, b1: vec4f, b2: vec4f, b3: vec4f, a0: vec4f, a1: vec4f }

fn adapter_at(index: u32) -> f32 { return adapter[index / 4u][index % 4u]; }

// Rank r of B for a column, zero where there is none.
fn b_at(column: u32, r: u32) -> f32 {
    let at = min(column, params.columns - 1u);
    let second = at >= params.start1;
    let third = at >= params.start2;
    let start = select(select(0u, params.start1, second), params.start2, third);
    let b = select(select(params.b0, params.b1, second), params.b2, third);
    let known = b != NONE && r < params.rank;
    return select(0.0, adapter_at(select(0u, b + (at - start) * params.rank + r, known)), known);
}

fn b_four(column: u32, r: u32) -> vec4f {
    return vec4f(b_at(column, r), b_at(column + 1u, r), b_at(column + 2u, r), b_at(column + 3u, r));
}

// The units of u that go with them.
fn u_at(column: u32, r: u32) -> f32 {
    let at = min(column, params.columns - 1u);
    let layer = select(0u, 1u, at >= params.start1) + select(0u, 1u, at >= params.start2);
    return u[min(layer * params.rank + r, UNITS - 1u)];
}

fn u_four(column: u32, r: u32) -> vec4f {
    return vec4f(u_at(column, r), u_at(column + 1u, r), u_at(column + 2u, r), u_at(column + 3u, r));
}

// Gate's B (b0) or up's (b1), whose channels begin at 0 both.
fn swiglu_b(channel: u32, r: u32, b: u32) -> vec4f {
    let known = b != NONE && r < params.rank;
    let last = params.columns - 1u;
    let at = select(0u, b + r, known);
    let width = select(0u, params.rank, known);
    let value = vec4f(adapter_at(at + min(channel, last) * width), adapter_at(at + min(channel + 1u, last) * width),
                      adapter_at(at + min(channel + 2u, last) * width), adapter_at(at + min(channel + 3u, last) * width));
    return select(vec4f(0.0), value, known);
}

// Two vectors of the next A: of its row `unit`, at the columns made here, each times the next norm's gains. Zero where
// there is none.
fn next_a(unit: u32, column0: u32, far: bool) -> vec4f {
    let layer = unit / max(params.next_rank, 1u);
    let a = select(select(params.a0, params.a1, layer == 1u), params.a2, layer == 2u);
    let quads = params.columns / 4u;
    let quad = column0 / 4u + select(0u, 1u, far);
    let known = unit < params.next_layers * params.next_rank && a != NONE && quad < quads;
    if (!known) { return vec4f(0.0); }
    let value = adapter[a / 4u + (unit % params.next_rank) * quads + quad];
    if (params.next_norm == 1u) { return value * gain[quad]; }
    return value;
}

// A helper's share of u: it adds every sharers-th part of one vector of units. Eight are on their way together.
fn part_at(p: u32, at: u32, quads: u32) -> vec4f {
    if (p >= params.num_parts) { return vec4f(0.0); }
    var weight = 1.0;
    if (ATTENTION) { weight = split_weights[p]; }
    return weight * parts[at + p * quads];
}

fn share_of_u(helper: u32) -> vec4f {
    let quads = params.units / 4u;
    if (quads == 0u) { return vec4f(0.0); }
    let sharers = HELPERS / quads;
    let at = params.parts_in / 4u + helper % quads;
    var sum = vec4f(0.0);
    if (helper >= sharers * quads) { return sum; }
    for (var p = helper / quads; p < params.num_parts; p += 8u * sharers) {
        let p0 = part_at(p, at, quads);
        let p1 = part_at(p + sharers, at, quads);
        let p2 = part_at(p + 2u * sharers, at, quads);
        let p3 = part_at(p + 3u * sharers, at, quads);
        let p4 = part_at(p + 4u * sharers, at, quads);
        let p5 = part_at(p + 5u * sharers, at, quads);
        let p6 = part_at(p + 6u * sharers, at, quads);
        let p7 = part_at(p + 7u * sharers, at, quads);
        sum += ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7));
    }
    return sum;
}

// u from the helpers' shares, for all invocations.
fn make_u(lane: u32) {
    workgroupBarrier();
    let quads = params.units / 4u;
    let scale = params.scale * step.strength;
    for (var unit = lane; unit < params.units; unit += ALL) {
        var total = 0.0;
        for (var s = 0u; s < HELPERS / quads; s++) { total += sums[s * quads + unit / 4u][unit % 4u]; }
        u[unit] = scale * total;
    }
    workgroupBarrier();
}

fn weight_dots(a: vec4f, row: u32, last: u32, quad: u32, quads: u32) -> vec4f {
    return vec4f(dot(a, weight_quad(min(row, last), quad, quads)), dot(a, weight_quad(min(row + 1u, last), quad, quads)),
                 dot(a, weight_quad(min(row + 2u, last), quad, quads)), dot(a, weight_quad(min(row + 3u, last), quad, quads)));
}

// Adds every invocation's vectors; the sums are in tree[k * ALL], the squares' in squares[0].
fn add_up(lane: u32) {
    workgroupBarrier();
    for (var half = ALL / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            for (var k = 0u; k < VECTORS; k++) { tree[k * ALL + lane] += tree[k * ALL + lane + half]; }
            if (half < LANES) { squares[lane] += squares[lane + half]; }
        }
        workgroupBarrier();
    }
}

// The next layers' A over the channels made here, which are in `made`, zeros past the last.
fn leave_parts(workgroup: u32, column0: u32, lane: u32, a0: vec4f, a1: vec4f) {
    if (params.next_units == 0u) { return; }
    workgroupBarrier();
    if (lane >= LANES) {
        let near = vec4f(made[0], made[1], made[2], made[3]);
        let far = vec4f(made[4], made[5], made[6], made[7]);
        let helper = lane - LANES;
        if (helper < params.next_units) { u[helper] = dot(a0, near) + dot(a1, far); }
        for (var unit = helper + HELPERS; unit < params.next_units; unit += HELPERS) {
            u[unit] = dot(next_a(unit, column0, false), near) + dot(next_a(unit, column0, true), far);
        }
    }
    workgroupBarrier();
    for (var at = lane; at < params.next_units / 4u; at += ALL) {
        parts[params.parts_out / 4u + workgroup * (params.next_units / 4u) + at] =
            vec4f(u[4u * at], u[4u * at + 1u], u[4u * at + 2u], u[4u * at + 3u]);
    }
}

@compute @workgroup_size(ALL)
fn embed(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    if (lane < COLUMNS) { made[lane] = 0.0; }
    if (lane < COLUMNS && column0 + lane < params.columns) {
        let column = column0 + lane;
        let value = weight_quad(token[0], column / 4u, params.columns / 4u)[column % 4u];
        made[lane] = value;
        y[column] = value;
    }
    if (ADAPTER) {
        let unit = max(lane, LANES) - LANES;
        leave_parts(group.x, column0, lane, next_a(unit, column0, false), next_a(unit, column0, true));
    }
}

@compute @workgroup_size(ALL)
fn norm_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
               @builtin(num_workgroups) groups: vec3u) {
    let column0 = (group.y * groups.x + group.x) * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    var near = vec4f(0.0);
    var far = vec4f(0.0);
    var b: Fetched;
    if (lane < LANES) {
        var square = 0.0;
        for (var quad = lane; quad < quads; quad += LANES) {
            let value = x[quad];
            let a = value * gain[quad];
            square += dot(value, value);
            near += weight_dots(a, column0, last, quad, quads);
            far += weight_dots(a, column0 + 4u, last, quad, quads);
        }
        squares[lane] = square;
    } else if (ADAPTER) {
        b.b0 = b_four(column0, lane - LANES);
        b.b1 = b_four(column0 + 4u, lane - LANES);
        sums[lane - LANES] = share_of_u(lane - LANES);
    }
    if (ADAPTER && params.units > 0u) {
        make_u(lane);
        // Only those that have a rank: past the units, u holds whatever was there, and zero times NaN is no zero.
        if (lane >= LANES && lane - LANES < params.rank) {
            near = b.b0 * u_four(column0, lane - LANES);
            far = b.b1 * u_four(column0 + 4u, lane - LANES);
            for (var r = lane - LANES + HELPERS; r < params.rank; r += HELPERS) {
                near += b_four(column0, r) * u_four(column0, r);
                far += b_four(column0 + 4u, r) * u_four(column0 + 4u, r);
            }
        }
    }
    tree[lane] = near;
    tree[ALL + lane] = far;
    add_up(lane);
    if (lane < COLUMNS && column0 + lane < params.columns) {
        let rstd = inverseSqrt(squares[0] / f32(params.inner) + params.eps);
        y[column0 + lane] = rstd * tree[lane / 4u * ALL][lane % 4u];
    }
}

@compute @workgroup_size(ALL)
fn norm_swiglu(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let channel0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let channels = params.columns;
    let last = channels - 1u;
    let end = 2u * channels - 1u;
    var gate_near = vec4f(0.0);
    var gate_far = vec4f(0.0);
    var up_near = vec4f(0.0);
    var up_far = vec4f(0.0);
    var b: Fetched;
    if (lane < LANES) {
        var square = 0.0;
        for (var quad = lane; quad < quads; quad += LANES) {
            let value = x[quad];
            let a = value * gain[quad];
            square += dot(value, value);
            gate_near += weight_dots(a, channel0, last, quad, quads);
            gate_far += weight_dots(a, channel0 + 4u, last, quad, quads);
            up_near += weight_dots(a, channels + channel0, end, quad, quads);
            up_far += weight_dots(a, channels + channel0 + 4u, end, quad, quads);
        }
        squares[lane] = square;
    } else if (ADAPTER) {
        let helper = lane - LANES;
        b.b0 = swiglu_b(channel0, helper, params.b0);
        b.b1 = swiglu_b(channel0 + 4u, helper, params.b0);
        b.b2 = swiglu_b(channel0, helper, params.b1);
        b.b3 = swiglu_b(channel0 + 4u, helper, params.b1);
        b.a0 = next_a(helper, channel0, false);
        b.a1 = next_a(helper, channel0, true);
        sums[helper] = share_of_u(helper);
    }
    if (ADAPTER && params.units > 0u) {
        make_u(lane);
        // Only those that have a rank: past the units, u holds whatever was there, and zero times NaN is no zero.
        if (lane >= LANES && lane - LANES < params.rank) {
            let helper = lane - LANES;
            gate_near = b.b0 * u[min(helper, UNITS - 1u)];
            gate_far = b.b1 * u[min(helper, UNITS - 1u)];
            up_near = b.b2 * u[min(helper + params.rank, UNITS - 1u)];
            up_far = b.b3 * u[min(helper + params.rank, UNITS - 1u)];
            for (var r = helper + HELPERS; r < params.rank; r += HELPERS) {
                gate_near += swiglu_b(channel0, r, params.b0) * u[r];
                gate_far += swiglu_b(channel0 + 4u, r, params.b0) * u[r];
                up_near += swiglu_b(channel0, r, params.b1) * u[r + params.rank];
                up_far += swiglu_b(channel0 + 4u, r, params.b1) * u[r + params.rank];
            }
        }
    }
    tree[lane] = gate_near;
    tree[ALL + lane] = gate_far;
    tree[2u * ALL + lane] = up_near;
    tree[3u * ALL + lane] = up_far;
    add_up(lane);
    if (lane < COLUMNS) { made[lane] = 0.0; }
    if (lane < COLUMNS && channel0 + lane < channels) {
        let rstd = inverseSqrt(squares[0] / f32(params.inner) + params.eps);
        let gate = rstd * tree[lane / 4u * ALL][lane % 4u];
        let up = rstd * tree[(2u + lane / 4u) * ALL][lane % 4u];
        let h = gate / (1.0 + exp(-gate)) * up;
        made[lane] = h;
        y[channel0 + lane] = h;
    }
    if (ADAPTER) { leave_parts(group.x, channel0, lane, b.a0, b.a1); }
}

// How much each split's sum counts: decode_attention leaves, behind the sums, its largest score and sum of weights.
fn weigh_splits(lane: u32, quads: u32) {
    for (var head = lane; head < params.heads; head += ALL) {
        var largest = -3.0e38;
        for (var s = 0u; s < SPLITS; s++) { largest = max(largest, x[SPLITS * quads + s * params.heads + head].x); }
        var total = 0.0;
        for (var s = 0u; s < SPLITS; s++) {
            let found = x[SPLITS * quads + s * params.heads + head];
            total += exp(found.x - largest) * found.y;
        }
        for (var s = 0u; s < SPLITS; s++) {
            let found = x[SPLITS * quads + s * params.heads + head];
            split_weights[s * params.heads + head] = exp(found.x - largest) / total;
        }
    }
    workgroupBarrier();
}

fn input_quad(quad: u32, quads: u32) -> vec4f {
    if (!ATTENTION) { return x[quad]; }
    let head = quad / HEAD_QUADS;
    var sum = vec4f(0.0);
    for (var s = 0u; s < SPLITS; s++) { sum += split_weights[s * params.heads + head] * x[s * quads + quad]; }
    return sum;
}

@compute @workgroup_size(ALL)
fn add_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    if (ATTENTION) { weigh_splits(lane, quads); }
    var near = vec4f(0.0);
    var far = vec4f(0.0);
    var b: Fetched;
    if (lane < LANES) {
        for (var quad = lane; quad < quads; quad += LANES) {
            let a = input_quad(quad, quads);
            near += weight_dots(a, column0, last, quad, quads);
            far += weight_dots(a, column0 + 4u, last, quad, quads);
        }
        squares[lane] = 0.0;
    } else if (ADAPTER) {
        b.b0 = b_four(column0, lane - LANES);
        b.b1 = b_four(column0 + 4u, lane - LANES);
        b.a0 = next_a(lane - LANES, column0, false);
        b.a1 = next_a(lane - LANES, column0, true);
        sums[lane - LANES] = share_of_u(lane - LANES);
    }
    if (ADAPTER && params.units > 0u) {
        make_u(lane);
        // Only those that have a rank: past the units, u holds whatever was there, and zero times NaN is no zero.
        if (lane >= LANES && lane - LANES < params.rank) {
            near = b.b0 * u_four(column0, lane - LANES);
            far = b.b1 * u_four(column0 + 4u, lane - LANES);
            for (var r = lane - LANES + HELPERS; r < params.rank; r += HELPERS) {
                near += b_four(column0, r) * u_four(column0, r);
                far += b_four(column0 + 4u, r) * u_four(column0 + 4u, r);
            }
        }
    }
    tree[lane] = near;
    tree[ALL + lane] = far;
    add_up(lane);
    if (lane < COLUMNS) { made[lane] = 0.0; }
    if (lane < COLUMNS && column0 + lane < params.columns) {
        let value = residual[column0 + lane] + tree[lane / 4u * ALL][lane % 4u];
        made[lane] = value;
        y[column0 + lane] = value;
    }
    if (ADAPTER) { leave_parts(group.x, column0, lane, b.a0, b.a1); }
}
