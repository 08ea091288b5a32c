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

const BLOCK = 128u;
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

@compute @workgroup_size(LANES)
fn forward_backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= params.rows || params.chunk_start + row >= step.loss_rows) { return; }
    let base = row * params.columns;
    let target_column = targets[params.chunk_start + row];
    var largest = -3.0e38;
    for (var v = lane; v < params.columns; v += LANES) { largest = max(largest, logits[base + v]); }
    largest = max_over_workgroup(largest, lane);
    var sum = 0.0;
    // A sum of sums: one long chain would lose what each of tens of thousands of small terms adds to a large total.
    for (var start = lane; start < params.columns; start += LANES * BLOCK) {
        var block = 0.0;
        for (var v = start; v < min(start + LANES * BLOCK, params.columns); v += LANES) {
            block += exp(logits[base + v] - largest);
        }
        sum += block;
    }
    sum = sum_over_workgroup(sum, lane);
    if (lane == 0u) { losses[params.chunk_start + row] = largest + log(sum) - logits[base + target_column]; }
    storageBarrier();
    workgroupBarrier();
    for (var v = lane; v < params.columns; v += LANES) {
        let probability = exp(logits[base + v] - largest) / sum;
        logits[base + v] = (probability - select(0.0, 1.0, v == target_column)) * step.inv_tokens;
    }
}

@compute @workgroup_size(LANES)
fn total(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < step.loss_rows; i += LANES) { sum += losses_in[i]; }
    sum = sum_over_workgroup(sum, lane);
    if (lane == 0u) { losses_total[0] += sum * step.inv_tokens; }
}
