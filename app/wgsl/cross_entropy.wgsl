// cross_entropy over a chunk of trained rows, forward and backward in one pass over the logits:
//   loss[i] = logsumexp(logits[i, :]) - logits[i, target[i]]
//   dlogits[i, v] = (softmax(logits[i, :])[v] - [v = target[i]]) * step.inv_tokens, written over logits
// logits: (rows, V)   targets: those of the gathered rows, chunk by chunk   losses: likewise
// One workgroup of LANES (given by the op) a row.
// total: losses_total += sum of losses[0 .. step.loss_rows) * step.inv_tokens
struct Params { rows: u32, columns: u32, chunk_start: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<u32>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;
@group(0) @binding(5) var<storage, read> losses_in: array<f32>;
@group(0) @binding(6) var<storage, read_write> losses_total: array<f32>;

const LOWEST = -3.0e38;
const AT_ONCE = 16u;   // logits of an invocation
const BLOCK = 32u * AT_ONCE;
var<workgroup> partial: array<f32, LANES>;

fn sum_over_workgroup(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    return partial[0];
}

fn max_over_workgroup(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
        workgroupBarrier();
    }
    return partial[0];
}

// An invocation has every LANES-th logit of its row, and asks for sixteen of them at once: most of the time is waiting.
fn places(v: u32) -> vec4u { return vec4u(v) + vec4u(0u, LANES, 2u * LANES, 3u * LANES); }

fn four_logits(base: u32, v: u32) -> vec4f {
    let at = base + min(places(v), vec4u(params.columns - 1u));
    return vec4f(logits[at.x], logits[at.y], logits[at.z], logits[at.w]);
}

// Those past the row's end count as nothing.
fn or_lowest(v: u32, four: vec4f) -> vec4f { return select(vec4f(LOWEST), four, places(v) < vec4u(params.columns)); }

fn store_four(base: u32, v: u32, four: vec4f) {
    let at = places(v);
    if (at.x < params.columns) { logits[base + at.x] = four.x; }
    if (at.y < params.columns) { logits[base + at.y] = four.y; }
    if (at.z < params.columns) { logits[base + at.z] = four.z; }
    if (at.w < params.columns) { logits[base + at.w] = four.w; }
}

@compute @workgroup_size(LANES)
fn forward_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= params.rows || params.chunk_start + row >= step.loss_rows) { return; }
    let base = row * params.columns;
    let target_column = targets[params.chunk_start + row];
    // One pass for the largest and the sum (Milakov and Gimelshein 2018): what has been added is scaled whenever a larger
    // one comes. A sum of sums: one long chain would lose what each of tens of thousands of small terms adds to a large
    // total.
    var largest = LOWEST;
    var sum = 0.0;
    for (var start = lane; start < params.columns; start += LANES * BLOCK) {
        var block = 0.0;
        for (var v = start; v < min(start + LANES * BLOCK, params.columns); v += LANES * AT_ONCE) {
            let y0 = four_logits(base, v);
            let y1 = four_logits(base, v + 4u * LANES);
            let y2 = four_logits(base, v + 8u * LANES);
            let y3 = four_logits(base, v + 12u * LANES);
            let x0 = or_lowest(v, y0);
            let x1 = or_lowest(v + 4u * LANES, y1);
            let x2 = or_lowest(v + 8u * LANES, y2);
            let x3 = or_lowest(v + 12u * LANES, y3);
            let most = max(max(x0, x1), max(x2, x3));
            let next = max(largest, max(max(most.x, most.y), max(most.z, most.w)));
            let terms = (exp(x0 - next) + exp(x1 - next)) + (exp(x2 - next) + exp(x3 - next));
            let scale = exp(largest - next);
            sum *= scale;
            block = block * scale + ((terms.x + terms.y) + (terms.z + terms.w));
            largest = next;
        }
        sum += block;
    }
    let most = max_over_workgroup(largest, lane);
    sum = sum_over_workgroup(sum * exp(largest - most), lane);
    if (lane == 0u) { losses[params.chunk_start + row] = most + log(sum) - logits[base + target_column]; }
    storageBarrier();
    workgroupBarrier();
    for (var v = lane; v < params.columns; v += LANES * AT_ONCE) {
        let x0 = four_logits(base, v);
        let x1 = four_logits(base, v + 4u * LANES);
        let x2 = four_logits(base, v + 8u * LANES);
        let x3 = four_logits(base, v + 12u * LANES);
        store_four(base, v, gradient(x0, v, most, sum, target_column));
        store_four(base, v + 4u * LANES, gradient(x1, v + 4u * LANES, most, sum, target_column));
        store_four(base, v + 8u * LANES, gradient(x2, v + 8u * LANES, most, sum, target_column));
        store_four(base, v + 12u * LANES, gradient(x3, v + 12u * LANES, most, sum, target_column));
    }
}

fn gradient(x: vec4f, v: u32, largest: f32, sum: f32, target_column: u32) -> vec4f {
    let wanted = select(vec4f(0.0), vec4f(1.0), places(v) == vec4u(target_column));
    return (exp(x - largest) / sum - wanted) * step.inv_tokens;
}

@compute @workgroup_size(LANES)
fn total(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < step.loss_rows; i += LANES) { sum += losses_in[i]; }
    sum = sum_over_workgroup(sum, lane);
    if (lane == 0u) { losses_total[0] += sum * step.inv_tokens; }
}
