// Soft capping (Gemma 2):  y = CAP tanh(s / CAP),  dy/ds = 1 - (y / CAP)^2.  CAP is given by the op; 0 caps nothing.
// tanh from exp, which is good to a few ulp everywhere, and for small x, where 1 - exp cancels, from its series.
fn tanh_of(x: f32) -> f32 {
    let square = x * x;
    let series = 1.0 + square * (-0.33333333 + square * (0.13333333 + square * (-0.053968254 + square * 0.021869489)));
    let e = exp(-2.0 * abs(x));
    return select(sign(x) * (1.0 - e) / (1.0 + e), x * series, abs(x) < 0.25);
}

fn capped(s: f32) -> f32 {
    if (CAP > 0.0) { return CAP * tanh_of(s / CAP); }
    return s;
}

fn capped_four(s: vec4f) -> vec4f {
    if (CAP > 0.0) { return vec4f(capped(s.x), capped(s.y), capped(s.z), capped(s.w)); }
    return s;
}

// The slope at the s that was capped to y.
fn slope_at(y: f32) -> f32 {
    if (CAP > 0.0) { return 1.0 - (y / CAP) * (y / CAP); }
    return 1.0;
}

fn slope_at_four(y: vec4f) -> vec4f {
    if (CAP > 0.0) { return vec4f(1.0) - (y / CAP) * (y / CAP); }
    return vec4f(1.0);
}
