// Factors of matmul_split read four at a time, as they lie: A_BY_K, a's rows are contiguous along the sum, else along m;
// B_BY_K, b's columns along the sum, else along n. What is contiguous is a multiple of four long and begins at one.
// Sixteen loads in a row without a branch between them: they are on their way together.
@group(0) @binding(2) var<storage, read> a: array<vec4f>;
@group(0) @binding(3) var<storage, read> b: array<vec4f>;
@group(0) @binding(5) var<storage, read> a2: array<vec4f>;
@group(0) @binding(6) var<storage, read> b2: array<vec4f>;

fn a_at(second: bool, at: u32) -> f32 {
    if (second) { return a2[at / 4u][at % 4u]; }
    return a[at / 4u][at % 4u];
}

fn b_at(second: bool, at: u32) -> f32 {
    if (second) { return b2[at / 4u][at % 4u]; }
    return b[at / 4u][at % 4u];
}

fn turned(x: Block) -> Block {
    return Block(vec4f(x.v0.x, x.v1.x, x.v2.x, x.v3.x), vec4f(x.v0.y, x.v1.y, x.v2.y, x.v3.y),
                 vec4f(x.v0.z, x.v1.z, x.v2.z, x.v3.z), vec4f(x.v0.w, x.v1.w, x.v2.w, x.v3.w));
}

fn four_of_a(second: bool, at: vec4u) -> Block {
    if (second) { return Block(a2[at.x / 4u], a2[at.y / 4u], a2[at.z / 4u], a2[at.w / 4u]); }
    return Block(a[at.x / 4u], a[at.y / 4u], a[at.z / 4u], a[at.w / 4u]);
}

fn four_of_b(second: bool, at: vec4u) -> Block {
    if (second) { return Block(b2[at.x / 4u], b2[at.y / 4u], b2[at.z / 4u], b2[at.w / 4u]); }
    return Block(b[at.x / 4u], b[at.y / 4u], b[at.z / 4u], b[at.w / 4u]);
}

// Rows i .. i + 3 of a at terms k .. k + 3; rows past the last repeat it.
fn a_block(p: Product, row0: u32, k: u32) -> Block {
    let four = vec4u(0u, 1u, 2u, 3u);
    if (A_BY_K) {
        return four_of_a(p.second == 1u, min(vec4u(row0) + four, vec4u(p.m - 1u)) * p.a_row + p.a_offset + k);
    }
    return turned(four_of_a(p.second == 1u, (vec4u(k) + four) * p.a_column + p.a_offset + min(row0, p.m - 4u)));
}

// Terms k .. k + 3 of b at columns j .. j + 3.
fn b_block(p: Product, column0: u32, k: u32) -> Block {
    let four = vec4u(0u, 1u, 2u, 3u);
    if (B_BY_K) {
        return turned(four_of_b(p.second == 1u, min(vec4u(column0) + four, vec4u(p.n - 1u)) * p.b_column + p.b_offset + k));
    }
    return four_of_b(p.second == 1u, (vec4u(k) + four) * p.b_row + p.b_offset + min(column0, p.n - 4u));
}
