// The linear layers of one token's way through a layer, five dispatches with decode_attention.wgsl, adapter or not:
//   embed:        x = embedding of the token
//   norm_linear:  y = W (x * rstd * gain) + B u                                        q, k and v; the lm_head
//   norm_swiglu:  h = silu(gate) * up,  gate and up = W (x * rstd * gain) + B u
//   add_linear:   y = x + W h + B u                                                    o and down
// with u = scale * A input. What A gives is known only when the whole input is, and waiting for it would be a dispatch of
// its own. So whoever makes a few channels of an input adds up A's share of those at once, its "part" of u, and whoever
// needs u adds the parts. An input that is normed later has its gain in the parts already; rstd, one number, comes last.
// `parts` holds (workgroups, units) of this and of all other layers; units = rank x layers that share the input, rounded
// up to whole vectors: reading the parts is what an adapter costs here, so four are read at a time.
// With ATTENTION the input of add_linear is what decode_attention left: SPLITS weighted sums of values for every head.
// COLUMNS results a workgroup; its LANES invocations split the sums, which are fixed trees: same input, same bits.
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
var<workgroup> tree: array<vec4f, LANES * 4>;
var<workgroup> squares: array<f32, LANES>;
var<workgroup> u: array<f32, UNITS>;           // also what is being made of the next one
var<workgroup> made: array<f32, COLUMNS>;
var<workgroup> split_weights: array<f32, SPLIT_WEIGHTS>;

// The first parts of u that this invocation adds up, on their way while the weights are multiplied.
struct Parts { p0: vec4f, p1: vec4f, p2: vec4f, p3: vec4f, p4: vec4f, p5: vec4f, p6: vec4f, p7: vec4f }

// Invocations share a vector's parts evenly: this one takes numbers part_of + i * sharers.
fn sharers() -> u32 { return LANES / max(params.units / 4u, 1u); }

fn part_at(p: u32, lane: u32) -> vec4f {
    let quads = params.units / 4u;
    let known = p < params.num_parts && lane < sharers() * quads;
    var weight = select(0.0, 1.0, known);
    if (ATTENTION) { weight *= split_weights[min(p, params.num_parts - 1u)]; }
    let at = params.parts_in / 4u + min(p, params.num_parts - 1u) * quads + lane % max(quads, 1u);
    return weight * parts[at];
}

fn load_parts(lane: u32) -> Parts {
    var found: Parts;
    if (params.units == 0u) { return found; }
    let step_ = sharers();
    let p = lane / (params.units / 4u);
    found.p0 = part_at(p, lane);
    found.p1 = part_at(p + step_, lane);
    found.p2 = part_at(p + 2u * step_, lane);
    found.p3 = part_at(p + 3u * step_, lane);
    found.p4 = part_at(p + 4u * step_, lane);
    found.p5 = part_at(p + 5u * step_, lane);
    found.p6 = part_at(p + 6u * step_, lane);
    found.p7 = part_at(p + 7u * step_, lane);
    return found;
}

// u for all invocations, through `tree`, which nothing else may be using.
fn share_u(found: Parts, lane: u32) {
    if (params.units == 0u) { return; }
    let quads = params.units / 4u;
    let step_ = sharers();
    var sum = ((found.p0 + found.p1) + (found.p2 + found.p3)) + ((found.p4 + found.p5) + (found.p6 + found.p7));
    for (var p = lane / quads + 8u * step_; p < params.num_parts; p += step_) { sum += part_at(p, lane); }
    tree[lane] = sum;
    workgroupBarrier();
    let scale = params.scale * step.strength;
    for (var unit = lane; unit < params.units; unit += LANES) {
        var total = tree[unit / 4u][unit % 4u];
        for (var s = 1u; s < step_; s++) { total += tree[s * quads + unit / 4u][unit % 4u]; }
        u[unit] = scale * total;
    }
    workgroupBarrier();
}

fn adapter_at(index: u32) -> f32 { return adapter[index / 4u][index % 4u]; }

// Where rank r of B stands for a column, and which unit of u belongs to it.
struct BPlace { at: u32, unit: u32, known: bool }

fn b_place(column: u32, r: u32) -> BPlace {
    let at = min(column, params.columns - 1u);
    let second = at >= params.start1;
    let third = at >= params.start2;
    let start = select(select(0u, params.start1, second), params.start2, third);
    let b = select(select(params.b0, params.b1, second), params.b2, third);
    let layer = select(0u, 1u, second) + select(0u, 1u, third);
    let known = b != NONE && r < params.rank;
    return BPlace(select(0u, b + (at - start) * params.rank + r, known), select(0u, layer * params.rank + r, known), known);
}

fn b_value(place: BPlace) -> f32 { return select(0.0, adapter_at(place.at), place.known); }

// B of four columns for rank r, zero where there is none.
fn b_values(column: u32, r: u32) -> vec4f {
    return vec4f(b_value(b_place(column, r)), b_value(b_place(column + 1u, r)), b_value(b_place(column + 2u, r)),
                 b_value(b_place(column + 3u, r)));
}

// The units of u that go with them.
fn u_values(column: u32, r: u32) -> vec4f {
    return vec4f(u[b_place(column, r).unit], u[b_place(column + 1u, r).unit], u[b_place(column + 2u, r).unit],
                 u[b_place(column + 3u, r).unit]);
}

fn weight_dots(a: vec4f, row: u32, last: u32, quad: u32, quads: u32) -> vec4f {
    return vec4f(dot(a, weight_quad(min(row, last), quad, quads)), dot(a, weight_quad(min(row + 1u, last), quad, quads)),
                 dot(a, weight_quad(min(row + 2u, last), quad, quads)), dot(a, weight_quad(min(row + 3u, last), quad, quads)));
}

// Adds `count` vectors of every invocation; the sums are in tree[k * LANES] for k < count, the squares' in squares[0].
fn add_up(lane: u32, count: u32) {
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            for (var k = 0u; k < count; k++) { tree[k * LANES + lane] += tree[k * LANES + lane + half]; }
            squares[lane] += squares[lane + half];
        }
        workgroupBarrier();
    }
}

// The next layers' A over the channels made here: channels column0 + i for i < COLUMNS, values in `made`, which is zero
// past the last channel. Eight channels of a row of A are two vectors.
fn leave_parts(workgroup: u32, column0: u32, lane: u32) {
    if (params.next_units == 0u) { return; }
    workgroupBarrier();
    let quad = column0 / 4u;
    let quads = params.columns / 4u;
    var near = vec4f(made[0], made[1], made[2], made[3]);
    var far = vec4f(made[4], made[5], made[6], made[7]);
    if (params.next_norm == 1u) {
        near *= gain[quad];
        far *= gain[min(quad + 1u, quads - 1u)];
    }
    let rows = params.next_layers * params.next_rank;
    for (var unit = lane; unit < params.next_units; unit += LANES) {
        let layer = unit / params.next_rank;
        let a = select(select(params.a0, params.a1, layer == 1u), params.a2, layer == 2u);
        var sum = 0.0;
        if (unit < rows && a != NONE) {
            let row = a / 4u + (unit % params.next_rank) * quads;
            sum = dot(adapter[row + quad], near) + dot(adapter[row + min(quad + 1u, quads - 1u)], far);
        }
        u[unit] = sum;
    }
    workgroupBarrier();
    for (var at = lane; at < params.next_units / 4u; at += LANES) {
        parts[params.parts_out / 4u + workgroup * (params.next_units / 4u) + at] =
            vec4f(u[4u * at], u[4u * at + 1u], u[4u * at + 2u], u[4u * at + 3u]);
    }
}

@compute @workgroup_size(LANES)
fn embed(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    if (lane < COLUMNS) { made[lane] = 0.0; }
    if (lane < COLUMNS && column0 + lane < params.columns) {
        let column = column0 + lane;
        let value = weight_quad(token[0], column / 4u, params.columns / 4u)[column % 4u];
        made[lane] = value;
        y[column] = value;
    }
    leave_parts(group.x, column0, lane);
}

@compute @workgroup_size(LANES)
fn norm_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
               @builtin(num_workgroups) groups: vec3u) {
    let column0 = (group.y * groups.x + group.x) * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    let found = load_parts(lane);
    let b_near = b_values(column0, lane);
    let b_far = b_values(column0 + 4u, lane);
    var near = vec4f(0.0);
    var far = vec4f(0.0);
    var square = 0.0;
    for (var quad = lane; quad < quads; quad += LANES) {
        let value = x[quad];
        let a = value * gain[quad];
        square += dot(value, value);
        near += weight_dots(a, column0, last, quad, quads);
        far += weight_dots(a, column0 + 4u, last, quad, quads);
    }
    share_u(found, lane);
    near += b_near * u_values(column0, lane);
    far += b_far * u_values(column0 + 4u, lane);
    for (var r = lane + LANES; r < params.rank; r += LANES) {
        near += b_values(column0, r) * u_values(column0, r);
        far += b_values(column0 + 4u, r) * u_values(column0 + 4u, r);
    }
    tree[lane] = near;
    tree[LANES + lane] = far;
    squares[lane] = square;
    add_up(lane, 2u);
    if (lane < COLUMNS && column0 + lane < params.columns) {
        let rstd = inverseSqrt(squares[0] / f32(params.inner) + params.eps);
        y[column0 + lane] = rstd * tree[lane / 4u * LANES][lane % 4u];
    }
}

@compute @workgroup_size(LANES)
fn norm_swiglu(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let channel0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let channels = params.columns;
    let last = channels - 1u;
    let end = 2u * channels - 1u;
    let found = load_parts(lane);
    let b_gate_near = swiglu_b(channel0, lane, params.b0);
    let b_gate_far = swiglu_b(channel0 + 4u, lane, params.b0);
    let b_up_near = swiglu_b(channel0, lane, params.b1);
    let b_up_far = swiglu_b(channel0 + 4u, lane, params.b1);
    var gate_near = vec4f(0.0);
    var gate_far = vec4f(0.0);
    var up_near = vec4f(0.0);
    var up_far = vec4f(0.0);
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
    share_u(found, lane);
    let u_gate = u[min(lane, params.rank)];
    let u_up = u[min(lane + params.rank, UNITS - 1u)];
    gate_near += b_gate_near * u_gate;
    gate_far += b_gate_far * u_gate;
    up_near += b_up_near * u_up;
    up_far += b_up_far * u_up;
    for (var r = lane + LANES; r < params.rank; r += LANES) {
        gate_near += swiglu_b(channel0, r, params.b0) * u[r];
        gate_far += swiglu_b(channel0 + 4u, r, params.b0) * u[r];
        up_near += swiglu_b(channel0, r, params.b1) * u[r + params.rank];
        up_far += swiglu_b(channel0 + 4u, r, params.b1) * u[r + params.rank];
    }
    tree[lane] = gate_near;
    tree[LANES + lane] = gate_far;
    tree[2u * LANES + lane] = up_near;
    tree[3u * LANES + lane] = up_far;
    squares[lane] = square;
    add_up(lane, 4u);
    if (lane < COLUMNS) { made[lane] = 0.0; }
    if (lane < COLUMNS && channel0 + lane < channels) {
        let rstd = inverseSqrt(squares[0] / f32(params.inner) + params.eps);
        let gate = rstd * tree[lane / 4u * LANES][lane % 4u];
        let up = rstd * tree[(2u + lane / 4u) * LANES][lane % 4u];
        let h = gate / (1.0 + exp(-gate)) * up;
        made[lane] = h;
        y[channel0 + lane] = h;
    }
    leave_parts(group.x, channel0, lane);
}

// The same for gate (b0) or up (b1), whose channels begin at 0 both.
fn swiglu_b(channel: u32, r: u32, b: u32) -> vec4f {
    let known = b != NONE && r < params.rank;
    let last = params.columns - 1u;
    let at = select(0u, b + r, known);
    let width = select(0u, params.rank, known);
    let value = vec4f(adapter_at(at + min(channel, last) * width), adapter_at(at + min(channel + 1u, last) * width),
                      adapter_at(at + min(channel + 2u, last) * width), adapter_at(at + min(channel + 3u, last) * width));
    return select(vec4f(0.0), value, known);
}

// How much each split's sum counts: decode_attention leaves, behind the sums, its largest score and sum of weights.
fn weigh_splits(lane: u32, quads: u32) {
    for (var head = lane; head < params.heads; head += LANES) {
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

@compute @workgroup_size(LANES)
fn add_linear(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let column0 = group.x * COLUMNS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    if (ATTENTION) { weigh_splits(lane, quads); }
    let found = load_parts(lane);
    let b_near = b_values(column0, lane);
    let b_far = b_values(column0 + 4u, lane);
    var near = vec4f(0.0);
    var far = vec4f(0.0);
    for (var quad = lane; quad < quads; quad += LANES) {
        let a = input_quad(quad, quads);
        near += weight_dots(a, column0, last, quad, quads);
        far += weight_dots(a, column0 + 4u, last, quad, quads);
    }
    share_u(found, lane);
    near += b_near * u_values(column0, lane);
    far += b_far * u_values(column0 + 4u, lane);
    for (var r = lane + LANES; r < params.rank; r += LANES) {
        near += b_values(column0, r) * u_values(column0, r);
        far += b_values(column0 + 4u, r) * u_values(column0 + 4u, r);
    }
    tree[lane] = near;
    tree[LANES + lane] = far;
    squares[lane] = 0.0;
    add_up(lane, 2u);
    if (lane < COLUMNS) { made[lane] = 0.0; }
    if (lane < COLUMNS && column0 + lane < params.columns) {
        let value = residual[column0 + lane] + tree[lane / 4u * LANES][lane % 4u];
        made[lane] = value;
        y[column0 + lane] = value;
    }
    leave_parts(group.x, column0, lane);
}
