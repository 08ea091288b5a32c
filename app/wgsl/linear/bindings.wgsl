// Tensors of the linear kernels as scalars: any width, any rank.
// include: linear/params.wgsl
@group(0) @binding(3) var<storage, read> x: array<vec4f>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read> lora_in: array<f32>;
@group(0) @binding(6) var<storage, read> lora_weight: array<f32>;
@group(0) @binding(7) var<storage, read> residual: array<f32>;

// What the result is added to.
fn base_at(at: u32) -> f32 {
    if (params.accumulate == 1u) { return y[at]; }
    if (params.accumulate == 2u) { return residual[at]; }
    return 0.0;
}
