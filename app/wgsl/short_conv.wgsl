// short_conv (LFM2):  y[t] = C[t] * conv[t],   conv[t] = sum over s of w[TAPS - 1 - s] * u[t - s],   u = B * x
//   for s in 0 .. TAPS - 1 as far as the text of row t goes back, which positions[t] rows do: positions begin anew at 0
//   with each text. Channel by channel: no two meet.
// backward, w being frozen, with g = dy * C:  du[t] = sum over s of w[TAPS - 1 - s] * g[t + s], over the same pairs,
//   dB = du * x,   dC = dy * conv,   dx = du * B
// bcx, dbcx: (rows, 3 channels), B, C and x side by side   w: (channels, TAPS)   y, dy: (rows, channels)   all with =
// Over a cache, kept (kept_rows, channels) holds u of the last tokens, that of position p in row p % kept_rows:
// forward_cached takes from it what stands before row 0, keep writes the rows as far as step.last_row: what follows in
// a padded prefill is nobody's.
struct Params { rows: u32, channels: u32, kept_rows: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> bcx: array<f32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read> positions: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> kept: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> dbcx: array<f32>;
@group(0) @binding(5) var<storage, read_write> kept_new: array<f32>;

fn index_of(group: vec3u, groups: vec3u, lane: u32) -> u32 { return (group.y * groups.x + group.x) * 64u + lane; }

fn b_at(t: u32, c: u32) -> u32 { return t * 3u * params.channels + c; }
fn c_at(t: u32, c: u32) -> u32 { return b_at(t, c) + params.channels; }
fn x_at(t: u32, c: u32) -> u32 { return b_at(t, c) + 2u * params.channels; }
fn u(t: u32, c: u32) -> f32 { return bcx[b_at(t, c)] * bcx[x_at(t, c)]; }
fn tap(c: u32, s: u32) -> f32 { return w[c * TAPS + TAPS - 1u - s]; }
fn kept_at(position: u32, c: u32) -> u32 { return position % params.kept_rows * params.channels + c; }

fn convolved(t: u32, c: u32) -> f32 {
    let reach = min(TAPS, positions[t] + 1u);
    var sum = 0.0;
    for (var s = 0u; s < reach; s++) { sum += tap(c, s) * u(t - s, c); }
    return sum;
}

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i >= params.rows * params.channels) { return; }
    let t = i / params.channels;
    let c = i % params.channels;
    y[i] = bcx[c_at(t, c)] * convolved(t, c);
}

@compute @workgroup_size(64)
fn forward_cached(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
                  @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i >= params.rows * params.channels) { return; }
    let t = i / params.channels;
    let c = i % params.channels;
    let reach = min(TAPS, positions[t] + 1u);
    var sum = 0.0;
    for (var s = 0u; s < reach; s++) {
        if (s <= t) {
            sum += tap(c, s) * u(t - s, c);
        } else {
            sum += tap(c, s) * kept[kept_at(positions[t] - s, c)];
        }
    }
    y[i] = bcx[c_at(t, c)] * sum;
}

@compute @workgroup_size(64)
fn keep(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    let back = i / params.channels;  // from the last row on
    if (back >= min(params.kept_rows, step.last_row + 1u)) { return; }
    let t = step.last_row - back;
    let c = i % params.channels;
    kept_new[kept_at(positions[t], c)] = u(t, c);
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
            @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i >= params.rows * params.channels) { return; }
    let t = i / params.channels;
    let c = i % params.channels;
    let last = min(TAPS, params.rows - t);
    var du = 0.0;
    for (var s = 0u; s < last; s++) {
        if (positions[t + s] >= s) { du += tap(c, s) * dy[i + s * params.channels] * bcx[c_at(t + s, c)]; }
    }
    dbcx[b_at(t, c)] = du * bcx[x_at(t, c)];
    dbcx[c_at(t, c)] = dy[i] * convolved(t, c);
    dbcx[x_at(t, c)] = du * bcx[b_at(t, c)];
}
