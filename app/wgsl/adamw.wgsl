// adamw (Loshchilov & Hutter 2019, as PyTorch orders it), with the gradient clipped by its total norm first:
//   g = grad * min(1, max_norm / (norm + 1e-6))          max_norm = 0: no clipping
//   p -= lr * weight_decay * p
//   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2
//   p -= lr / bias_correction1 * m / (sqrt(v) / sqrt(bias_correction2) + eps)
// p, m, v: (n), updated in place   grad: (n)   norm: (1)
struct Params { n: u32, beta1: f32, beta2: f32, one_minus_beta1: f32, one_minus_beta2: f32,
                eps: f32, weight_decay: f32, max_norm: f32 }
@group(0) @binding(0) var<uniform> params: Params;
// include: step.wgsl
@group(0) @binding(2) var<storage, read_write> p: array<f32>;
@group(0) @binding(3) var<storage, read> grad: array<f32>;
@group(0) @binding(4) var<storage, read_write> m: array<f32>;
@group(0) @binding(5) var<storage, read_write> v: array<f32>;
@group(0) @binding(6) var<storage, read> norm: array<f32>;

@compute @workgroup_size(64)
fn update(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
          @builtin(num_workgroups) groups: vec3u) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.n) { return; }
    // A norm that is not finite must not spoil what was learned. By bits: compilers may assume that NaN does not occur.
    if ((bitcast<u32>(norm[0]) & 0x7f800000u) == 0x7f800000u) { return; }
    let clip = select(1.0, min(1.0, params.max_norm / (norm[0] + 1e-6)), params.max_norm > 0.0);
    let g = grad[i] * clip;
    let mean = params.beta1 * m[i] + params.one_minus_beta1 * g;
    let square = params.beta2 * v[i] + params.one_minus_beta2 * g * g;
    m[i] = mean;
    v[i] = square;
    let decayed = p[i] - step.learning_rate * params.weight_decay * p[i];
    let denominator = sqrt(square) / sqrt(step.bias_correction2) + params.eps;
    p[i] = decayed - step.learning_rate / step.bias_correction1 * mean / denominator;
}
