// add:  y = a + b   (residual; its backward hands dy to both sides)
// copy: y = a
// scale: y = value * a   (its backward is itself)
// fill: y = value
struct Params { n: u32, value: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn index_of(group: vec3u, groups: vec3u, lane: u32) -> u32 { return (group.y * groups.x + group.x) * 64u + lane; }

@compute @workgroup_size(64)
fn add(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
       @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i < params.n) { y[i] = a[i] + b[i]; }
}

@compute @workgroup_size(64)
fn copy(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i < params.n) { y[i] = a[i]; }
}

@compute @workgroup_size(64)
fn fill(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
        @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i < params.n) { y[i] = params.value; }
}

@compute @workgroup_size(64)
fn scale(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
         @builtin(num_workgroups) groups: vec3u) {
    let i = index_of(group, groups, lane);
    if (i < params.n) { y[i] = params.value * a[i]; }
}
