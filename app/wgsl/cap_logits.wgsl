// cap_logits, over a chunk of the loss's logits (rows, V), in place (Gemma 2):
//   forward   logits = CAP tanh(logits / CAP)
//   backward  dlogits *= 1 - (y / CAP)^2, of the capped logits y, which were kept
struct Params { n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: softcap.wgsl
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read> kept: array<f32>;

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if (i < params.n) { logits[i] = capped(logits[i]); }
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
            @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 256u + lane;
    if (i < params.n) { logits[i] *= slope_at(kept[i]); }
}
