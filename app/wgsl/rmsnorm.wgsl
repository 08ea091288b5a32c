// rmsnorm:  y = x * rstd * gain,  rstd = 1 / sqrt(mean(x^2) + eps)
// x, y, dy, dx: (rows, C)   gain: (C)   rstd: (rows), kept for backward
// With h = dy * gain:  dx (=|+=) rstd * (h - x * rstd^2 * mean(h * x)).  The gain is frozen.
// backward_and_again also writes y as forward did, so that y need not be kept for the backward of what read it.
// One workgroup of LANES (given by the op) a row; sums are a fixed tree, so the same input gives the same bits.
struct Params { rows: u32, columns: u32, eps: f32, accumulate: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> gain: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read> rstd_saved: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;

var<workgroup> partial: array<f32, LANES>;
fn sum_over_workgroup(value: f32, lane: u32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    return partial[0];
}

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let row = group.y * groups.x + group.x;
    if (row >= params.rows) { return; }
    let base = row * params.columns;
    var squares = 0.0;
    for (var c = lane; c < params.columns; c += LANES) { squares += x[base + c] * x[base + c]; }
    let scale = inverseSqrt(sum_over_workgroup(squares, lane) / f32(params.columns) + params.eps);
    for (var c = lane; c < params.columns; c += LANES) { y[base + c] = x[base + c] * scale * gain[c]; }
    if (lane == 0u) { rstd[row] = scale; }
}

// Writes a row of dx and returns its rstd.
fn write_dx(row: u32, lane: u32) -> f32 {
    let base = row * params.columns;
    var dot_hx = 0.0;
    for (var c = lane; c < params.columns; c += LANES) { dot_hx += dy[base + c] * gain[c] * x[base + c]; }
    let scale = rstd_saved[row];
    let mean_hx = sum_over_workgroup(dot_hx, lane) / f32(params.columns);
    for (var c = lane; c < params.columns; c += LANES) {
        let value = scale * (dy[base + c] * gain[c] - x[base + c] * scale * scale * mean_hx);
        if (params.accumulate == 1u) { dx[base + c] += value; } else { dx[base + c] = value; }
    }
    return scale;
}

@compute @workgroup_size(LANES)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
            @builtin(num_workgroups) groups: vec3u) {
    let row = group.y * groups.x + group.x;
    if (row >= params.rows) { return; }
    _ = write_dx(row, lane);
}

@compute @workgroup_size(LANES)
fn backward_and_again(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
                      @builtin(num_workgroups) groups: vec3u) {
    let row = group.y * groups.x + group.x;
    if (row >= params.rows) { return; }
    let scale = write_dx(row, lane);
    let base = row * params.columns;
    for (var c = lane; c < params.columns; c += LANES) { y[base + c] = x[base + c] * scale * gain[c]; }
}
