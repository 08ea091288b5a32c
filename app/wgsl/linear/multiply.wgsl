// Part of linear/tiled.wgsl: multiplies one trip out of the tiles.
        for (var k = 0u; k < DEPTH; k++) {
            let near = right[(depth0 + k) * RIGHT + column];
            let far = right[(depth0 + k) * RIGHT + column + 8u];
            let f = left[(depth0 + k) * LEFT + row];
            near0 += f.x * near;
            far0 += f.x * far;
            near1 += f.y * near;
            far1 += f.y * far;
            near2 += f.z * near;
            far2 += f.z * far;
            near3 += f.w * near;
            far3 += f.w * far;
            if (TALL) {
                let g = left[(depth0 + k) * LEFT + row + ROW_LANES];
                near4 += g.x * near;
                far4 += g.x * far;
                near5 += g.y * near;
                far5 += g.y * far;
                near6 += g.z * near;
                far6 += g.z * far;
                near7 += g.w * near;
                far7 += g.w * far;
            }
            if (TALLEST) {
                let h = left[(depth0 + k) * LEFT + row + 2u * ROW_LANES];
                near8 += h.x * near;
                far8 += h.x * far;
                near9 += h.y * near;
                far9 += h.y * far;
                near10 += h.z * near;
                far10 += h.z * far;
                near11 += h.w * near;
                far11 += h.w * far;
                let i = left[(depth0 + k) * LEFT + row + 3u * ROW_LANES];
                near12 += i.x * near;
                far12 += i.x * far;
                near13 += i.y * near;
                far13 += i.y * far;
                near14 += i.z * near;
                far14 += i.z * far;
                near15 += i.w * near;
                far15 += i.w * far;
            }
        }
