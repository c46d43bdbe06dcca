/* tiles.c: whether every tile that the dense kernels of one target and precision choose exists, for
 * tests/test_instruction_sets.py. Walks through products of all numbers of rows and columns, and prints those for which an
 * entry of the tables is missing: what, rows, vectors, height and width of the tile.
 *
 * Compile with -DKERNEL_FILE='"isa/<target>_f<bits>.c"' and csrc on the include path. */
#include <stdio.h>

#include KERNEL_FILE

enum { ROWS = 300, VECTORS = 40 };

static void look(const char *what, const tile_fn (*table)[MAX_V + 1], const tiling *tiles, size_t tallest, size_t rows,
                 size_t left) {
    const int width = tile_width(tallest, left);
    for (size_t t = 0; t < tiles->count; ++t)
        if (!table[tile_height(tiles, t)][width])
            printf("%s %zu %zu %zu %d\n", what, rows, left, tile_height(tiles, t), width);
}

static void look_at(int in_place, size_t terms, size_t rows, size_t left) {
    const tiling product = tile_rows(rows, most_rows_left(terms, TILE_ROWS, left));
    look("product", dense_tiles[in_place], &product, tile_height(&product, 0), rows, left);
    /* As grad_strips: in place all inputs at once, else whole blocks and what is left. */
    const size_t most = most_rows_left(terms, GRAD_ROWS, left), tallest = tallest_of(rows, most, in_place);
    const size_t parts[] = {in_place || rows < BL ? rows : BL, in_place ? 0 : rows % BL};
    for (int part = 0; part < 2; ++part) {
        if (!parts[part]) continue;
        const tiling gradient = tile_rows(parts[part], most);
        look("gradient", grad_tiles[in_place], &gradient, tallest, rows, left);
    }
}

int main(void) {
    const size_t terms[] = {1, SHORT, SHORT + 1, 1000};
    for (int in_place = 0; in_place <= HAS_ROW_TILES; ++in_place)
        for (size_t i = 0; i < sizeof terms / sizeof *terms; ++i)
            for (size_t rows = 1; rows <= ROWS; ++rows)
                for (size_t left = 1; left <= VECTORS; ++left) look_at(in_place, terms[i], rows, left);
    return 0;
}
