// Moving whole rows of C channels.
// gather:  y[i, :] = x[rows[offset + i], :]   for the trained rows of a chunk (offset + i < step.loss_rows)
// scatter: y[rows[offset + i], :] = x[i, :]   the same rows back; rows not named keep what they hold
// append:  y[step.past + i, :] = x[i, :]      keys and values into the cache
// last:    y[0, :] = x[step.last_row, :]      the last real token of a padded prefill
struct Params { count: u32, columns: u32, offset: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn index_of(group: vec3u, groups: vec3u, lane: u32) -> u32 { return (group.y * groups.x + group.x) * 64u + lane; }

@compute @workgroup_size(64)
fn gather(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
          @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    let row = i / params.columns;
    if (row >= params.count || params.offset + row >= step.loss_rows) { return; }
    y[i] = x[rows[params.offset + row] * params.columns + i % params.columns];
}

@compute @workgroup_size(64)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    let row = i / params.columns;
    if (row >= params.count || params.offset + row >= step.loss_rows) { return; }
    y[rows[params.offset + row] * params.columns + i % params.columns] = x[i];
}

@compute @workgroup_size(64)
fn append(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
          @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i < params.count * params.columns) { y[step.past * params.columns + i] = x[i]; }
}

@compute @workgroup_size(64)
fn last(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i < params.columns) { y[i] = x[step.last_row * params.columns + i]; }
}
