// Factors of matmul as scalars: any shape, lying in any way.
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(5) var<storage, read> a2: array<f32>;
@group(0) @binding(6) var<storage, read> b2: array<f32>;

fn a_at(second: bool, at: u32) -> f32 {
    if (second) { return a2[at]; }
    return a[at];
}

fn b_at(second: bool, at: u32) -> f32 {
    if (second) { return b2[at]; }
    return b[at];
}

fn four_of_a(second: bool, at: vec4u) -> vec4f {
    if (second) { return vec4f(a2[at.x], a2[at.y], a2[at.z], a2[at.w]); }
    return vec4f(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn four_of_b(second: bool, at: vec4u) -> vec4f {
    if (second) { return vec4f(b2[at.x], b2[at.y], b2[at.z], b2[at.w]); }
    return vec4f(b[at.x], b[at.y], b[at.z], b[at.w]);
}

// Rows i .. i + 3 of a at four terms; rows past the last repeat it.
fn a_block(p: Product, second: bool, row0: u32, terms: vec4u) -> Block {
    let rows = min(vec4u(row0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.m - 1u)) * p.a_row + p.a_offset;
    let along = terms * p.a_column;
    return Block(four_of_a(second, rows.x + along), four_of_a(second, rows.y + along),
                 four_of_a(second, rows.z + along), four_of_a(second, rows.w + along));
}

// Those terms of b at columns j .. j + 3.
fn b_block(p: Product, second: bool, column0: u32, terms: vec4u) -> Block {
    let columns = min(vec4u(column0) + vec4u(0u, 1u, 2u, 3u), vec4u(p.n - 1u)) * p.b_column + p.b_offset;
    let along = terms * p.b_row;
    return Block(four_of_b(second, columns + along.x), four_of_b(second, columns + along.y),
                 four_of_b(second, columns + along.z), four_of_b(second, columns + along.w));
}
