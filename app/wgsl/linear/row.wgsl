// linear for one row (decoding): y (out) = x (in) weightT + lora_in (R) lora_weight (out, R)T
// One workgroup makes OUTPUTS results; its LANES invocations (given by the op) split the sum and add up in a fixed tree.
// include: linear/bindings.wgsl
const OUTPUTS = 4u;
var<workgroup> partial: array<vec4f, LANES>;

@compute @workgroup_size(LANES)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32,
           @builtin(num_workgroups) groups: vec3u) {
    let column0 = (group.y * groups.x + group.x) * OUTPUTS;
    let quads = params.inner / 4u;
    let last = params.columns - 1u;
    let lora0 = params.rank0 + layer_of(min(column0, last)).index * params.rank;
    var acc = vec4f(0.0);
    for (var quad = lane; quad < quads; quad += LANES) {
        let a = x[quad];
        acc += vec4f(dot(a, weight_quad(params.weight_row0 + min(column0, last), quad, quads)),
                     dot(a, weight_quad(params.weight_row0 + min(column0 + 1u, last), quad, quads)),
                     dot(a, weight_quad(params.weight_row0 + min(column0 + 2u, last), quad, quads)),
                     dot(a, weight_quad(params.weight_row0 + min(column0 + 3u, last), quad, quads)));
    }
    for (var r = lane; r < params.rank; r += LANES) {
        let u = lora_in[lora0 + r];
        let at = params.lora_row0 * params.rank + r;
        acc += u * vec4f(lora_weight[at + min(column0, last) * params.rank],
                         lora_weight[at + min(column0 + 1u, last) * params.rank],
                         lora_weight[at + min(column0 + 2u, last) * params.rank],
                         lora_weight[at + min(column0 + 3u, last) * params.rank]);
    }
    partial[lane] = acc;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half >>= 1u) {
        if (lane < half) { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    if (lane < OUTPUTS && column0 + lane < params.columns) {
        let at = place_of(0u, column0 + lane);
        y[at] = partial[0][lane] + base_at(at);
    }
}
