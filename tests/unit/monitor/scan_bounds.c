/* Calls the scanner on texts, templates and places of all kinds, each in memory of exactly its size.
 *
 * Built with the compiler's sanitizers by test_scanning.py: they end it where a byte is looked at outside. */

#define SOURCE_DIGEST "under test"
#include SCAN_SOURCE

#include <stdio.h>
#include <stdlib.h>

enum { CASES = 60000, MOST_WORDS = 40, MOST_PARTS = 6, MOST_BYTES = 4096 };

static const char *const WORDS[] = {
    "0",  "1", "9",  ".",  "e",  "-",    "+",   "nan",  "inf",           "inity",
    ",",  "]", "|",  "\n", "\r", "a",    " ",   "\xff", "Train epoch [", "123456789012345678",
    "e9", "N", "IN", "E+", "0.", "1e40", "nae", "i",    "00000000000000000000000000000000000000000000000000000000000",
};
static uint64_t state = 88172645463325252;

static uint64_t random_below(uint64_t limit) { /* Marsaglia's xorshift: the same numbers everywhere */
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % limit;
}
static const char *random_word(void) { return WORDS[random_below(sizeof WORDS / sizeof *WORDS)]; }
static void *exactly(const void *bytes, size_t size) {
    void *const copy = malloc(size ? size : 1);
    return size ? memcpy(copy, bytes, size) : realloc(copy, 1);
}
static size_t random_template(uint8_t *parts, int64_t *num_values, int64_t *num_spans) {
    size_t size = 0;
    *num_values = *num_spans = 0;
    for (uint64_t left = random_below(MOST_PARTS + 1); left; left--) {
        const char kind = "LNCU"[random_below(4)], *const word = random_word();
        const uint32_t number = kind == 'L' ? (uint32_t)strlen(word) : (uint32_t)random_below(random_below(3) ? 8 : UINT32_MAX);
        parts[size] = (uint8_t)kind;
        for (int byte = 0; byte < 4; byte++) parts[size + 1 + byte] = (uint8_t)(number >> (8 * byte));
        size += 5;
        if (kind == 'L') memcpy(parts + size, word, number), size += number;
        if (kind == 'U') parts[size++] = (uint8_t) ",]|e"[random_below(4)], ++*num_spans;
        if (kind == 'N' || kind == 'C') ++*num_values;
    }
    return size;
}

int main(void) {
    for (int number = 0; number < CASES; number++) {
        uint8_t bytes[MOST_BYTES], described[MOST_BYTES];
        size_t size = 0;
        for (uint64_t left = random_below(MOST_WORDS); left; left--) {
            const char *const word = random_word();
            memcpy(bytes + size, word, strlen(word)), size += strlen(word);
        }
        const int64_t length = (int64_t)size, count = length + 4;
        uint8_t *const text = exactly(bytes, size);

        int64_t num_values, num_spans;
        const size_t parts_length = random_template(described, &num_values, &num_spans);
        uint8_t *const parts = exactly(described, parts_length);
        int64_t *const starts = malloc(sizeof(int64_t) * (size_t)count), *const ends = malloc(sizeof(int64_t) * (size_t)count);
        double *const values = malloc(sizeof(double) * (size_t)(count * num_values + 1));
        int64_t *const spans = malloc(sizeof(int64_t) * (size_t)(2 * count * num_spans + 1));
        for (int64_t index = 0; index < count; index++) starts[index] = index - 1;
        starts[0] = INT64_MIN, starts[count - 1] = INT64_MAX;
        scan_template(parts, (int64_t)parts_length, text, length, starts, count, ends, values, num_values, spans, num_spans);
        for (int64_t index = 0; index < count; index++)
            if (ends[index] > length || (ends[index] >= 0 && ends[index] < starts[index])) return 1;

        const char *const word = random_word();
        const int64_t piece_length = (int64_t)strlen(word), capacity = (int64_t)random_below(9);
        uint8_t *const piece = exactly(word, strlen(word));
        int64_t *const places = malloc(sizeof(int64_t) * (size_t)(capacity + 1));
        int64_t found, expected = 0;
        const int64_t rare = (int64_t)random_below((uint64_t)piece_length), other = (int64_t)random_below((uint64_t)piece_length);
        found = piece_length == 1 ? scan_byte(text, length, piece[0], places, capacity)
                                  : scan_piece(text, length, piece, piece_length, rare, other, places, capacity);
        for (int64_t at = 0; at + piece_length <= length; at++)
            if (!memcmp(text + at, piece, strlen(word)) && expected++ < capacity && places[expected - 1] != at) return 2;
        if (found != expected) return 3;

        int64_t begins[4], stops[4], total = 0;
        for (int index = 0; index < 4; index++) {
            begins[index] = (int64_t)random_below(size + 1);
            stops[index] = begins[index] + (int64_t)random_below((uint64_t)(length - begins[index] + 1));
            total += stops[index] - begins[index];
        }
        uint8_t repeats[4], *const joined = malloc(total ? (size_t)total : 1);
        scan_repeats(text, begins, stops, 4, repeats);
        scan_join(text, begins, stops, 4, joined);
        free(text), free(parts), free(starts), free(ends), free(values), free(spans), free(piece), free(places), free(joined);
    }
    puts("every byte was inside");
    return 0;
}
