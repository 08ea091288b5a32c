// sample: the next token from logits (V), in Hugging Face's order: repetition penalty, temperature, top-k, top-p, min-p.
//   greedy (temperature 0): the largest logit, the lowest index among equals
//   else: keep logits >= the k-th largest; of those the smallest set, largest first, whose probability reaches top_p; of
//   those the ones with p >= min_p * p of the largest; then draw by inverse cumulative probability.
// Thresholds are found bit by bit over the logits' order (32 passes, no sort): the largest key whose set is big enough.
// token: (1), the result, which the next decode reads   drawn: (any), the same at step.draw modulo its length, for the
// host to read several at a time   seen: (V), nonzero for tokens of the text so far; the result is added to it.
// One workgroup of LANES (given by the op); sums are fixed trees: the same seed and draw give the same token on the same device.
struct Params { columns: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> token: array<u32>;
@group(0) @binding(5) var<storage, read_write> drawn: array<u32>;

const NEVER = -3.0e38;
var<workgroup> partial: array<f32, LANES>;
var<workgroup> indices: array<u32, LANES>;
var<workgroup> start_of_lane: array<f32, LANES>;
var<workgroup> chosen: u32;

// Unsigned keys in the order of the floats.
fn key_of(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

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

// The PCG hash (Jarzynski & Olano 2020), chained over seed and draw; 24 bits make the uniform number.
fn pcg(value: u32) -> u32 {
    let state = value * 747796405u + 2891336453u;
    let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
    return (word >> 22u) ^ word;
}

fn leave(result: u32) {
    token[0] = result;
    drawn[step.draw % arrayLength(&drawn)] = result;
    seen[result] = 1u;
}

@compute @workgroup_size(LANES)
fn draw(@builtin(local_invocation_index) lane: u32) {
    let n = params.columns;
    let greedy = step.temperature <= 0.0;
    var largest = NEVER;
    var largest_at = n - 1u;
    for (var v = lane; v < n; v += LANES) {
        var value = logits[v];
        if (seen[v] != 0u) { value = select(value * step.repetition_penalty, value / step.repetition_penalty, value > 0.0); }
        if (!greedy) { value /= step.temperature; }
        logits[v] = value;
        if (value > largest) { largest = value; largest_at = v; }
    }
    partial[lane] = largest;
    indices[lane] = largest_at;
    storageBarrier();
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) {
            let other = partial[lane + half];
            let better = other > partial[lane] || (other == partial[lane] && indices[lane + half] < indices[lane]);
            if (better) { partial[lane] = other; indices[lane] = indices[lane + half]; }
        }
        workgroupBarrier();
    }
    let top = partial[0];
    if (greedy) {
        if (lane == 0u) { leave(indices[0]); }
        return;
    }

    var threshold = 0u;
    if (step.top_k > 0u && step.top_k < n) {
        var found = 0u;
        for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
            var count = 0.0;
            for (var v = lane; v < n; v += LANES) { count += select(0.0, 1.0, key_of(logits[v]) >= (found | bit)); }
            if (sum_over_workgroup(count, lane) >= f32(step.top_k)) { found |= bit; }
        }
        threshold = found;
    }
    if (step.top_p < 1.0) {
        var mass = 0.0;
        for (var v = lane; v < n; v += LANES) {
            mass += select(0.0, exp(logits[v] - top), key_of(logits[v]) >= threshold);
        }
        let wanted = step.top_p * sum_over_workgroup(mass, lane);
        var found = 0u;
        for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
            let limit = max(found | bit, threshold);
            var above = 0.0;
            for (var v = lane; v < n; v += LANES) {
                above += select(0.0, exp(logits[v] - top), key_of(logits[v]) >= limit);
            }
            if (sum_over_workgroup(above, lane) >= wanted) { found |= bit; }
        }
        threshold = max(threshold, found);
    }
    // The largest logit always stays: rounding in the sums above must not leave an empty set.
    threshold = min(threshold, key_of(top));

    // Each invocation owns a contiguous stretch, so that the cumulative sum runs in the order of the vocabulary.
    let stretch = (n + LANES - 1u) / LANES;
    let first = min(lane * stretch, n);
    let last = min(first + stretch, n);
    var mass = 0.0;
    for (var v = first; v < last; v++) { mass += kept(v, top, threshold); }
    workgroupBarrier();
    partial[lane] = mass;
    workgroupBarrier();
    if (lane == 0u) {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) { start_of_lane[i] = sum; sum += partial[i]; }
        let uniform_number = f32(pcg(step.seed ^ pcg(step.draw)) >> 8u) / 16777216.0;
        partial[0] = uniform_number * sum;
        chosen = indices[0];
    }
    workgroupBarrier();
    let target_mass = partial[0];
    if (mass > 0.0 && target_mass >= start_of_lane[lane] && (lane == LANES - 1u || target_mass < start_of_lane[lane + 1u])) {
        var sum = start_of_lane[lane];
        for (var v = first; v < last; v++) {
            let p = kept(v, top, threshold);
            if (p == 0.0) { continue; }
            sum += p;
            chosen = v;
            if (sum > target_mass) { break; }
        }
    }
    workgroupBarrier();
    if (lane == 0u) { leave(chosen); }
}

// The unnormalised probability of token v, 0 where it was cut.
fn kept(v: u32, top: f32, threshold: u32) -> f32 {
    let p = exp(logits[v] - top);
    return select(0.0, p, key_of(logits[v]) >= threshold && p >= step.min_p);
}
