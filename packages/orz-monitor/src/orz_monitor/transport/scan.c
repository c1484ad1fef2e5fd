/* The inner loops of reading logs: where a byte stands, and what stands at places, by templates.
 *
 * Called from scanning.py, which owns all memory and gives each buffer with its length. Nothing is kept between calls,
 * nothing is allocated, and no byte is looked at outside of a text, whatever it holds. transport/template.py says what a
 * template is, and reads by regular expressions where this file could not be compiled; both read the same.
 *
 * C99, and the C library's memchr and memcmp. Without Python's headers: the compiler is all that is needed.
 */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { LITERAL = 'L', NUMBER = 'N', COUNT = 'C', UNTIL = 'U' };
enum { LONGEST_NUMBER = 60, LONGEST_COUNT = 15, NO_FIT = -1, UNSURE = -2 };

/* The digest of this file, which the build gives: a library of another version of it is not called. */
const char *scan_source(void) { return SOURCE_DIGEST; }

/* Write where a byte stands into places, at most capacity of them, and return how often it does. */
int64_t scan_byte(const uint8_t *text, int64_t length, uint8_t byte, int64_t *places, int64_t capacity) {
    int64_t count = 0, at = 0;
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi8((char)byte);
    for (; at + 64 <= length; at += 64) {
        uint64_t found = 0;
        for (int part = 0; part < 4; part++) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(text + at + 16 * part));
            found |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, wanted)) << (16 * part);
        }
        for (; found; found &= found - 1, count++)
            if (count < capacity) places[count] = at + __builtin_ctzll(found);
    }
#endif
    for (; at < length; at++)
        if (text[at] == byte) {
            if (count < capacity) places[count] = at;
            count++;
        }
    return count;
}

/* Write where a piece stands into places, at most capacity of them, and return how often it does.
 * Two of its bytes, at the indices rare and other, are looked for together: the rarer they are, the sooner. */
int64_t scan_piece(const uint8_t *text, int64_t length, const uint8_t *piece, int64_t piece_length, int64_t rare,
                   int64_t other, int64_t *places, int64_t capacity) {
    int64_t count = 0, at = 0;
    const int64_t last = length - piece_length;
#ifdef __SSE2__
    const __m128i wanted = _mm_set1_epi8((char)piece[rare]), beside = _mm_set1_epi8((char)piece[other]);
    for (; at + 15 <= last; at += 16) { /* so that no byte behind the text is loaded */
        const __m128i here = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(text + at + rare)), wanted);
        const __m128i there = _mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *)(text + at + other)), beside);
        for (uint32_t found = (uint32_t)_mm_movemask_epi8(_mm_and_si128(here, there)); found; found &= found - 1) {
            const int64_t place = at + __builtin_ctz(found);
            if (memcmp(text + place, piece, (size_t)piece_length)) continue;
            if (count < capacity) places[count] = place;
            count++;
        }
    }
#endif
    for (; at <= last; at++)
        if (text[at + rare] == piece[rare] && !memcmp(text + at, piece, (size_t)piece_length)) {
            if (count < capacity) places[count] = at;
            count++;
        }
    return count;
}

static int is_digit(const uint8_t *at, const uint8_t *end) { return at < end && (unsigned)(*at - '0') < 10; }

/* Return what is behind a word in letters of either case, or the place itself where it does not stand there. */
static const uint8_t *skip_word(const uint8_t *at, const uint8_t *end, const char *word) {
    const uint8_t *next = at;
    for (; *word; word++, next++)
        if (next == end || (*next | 0x20) != (uint8_t)*word) return at;
    return next;
}

/* Powers of ten that a long double of 64 bits or more holds exactly. */
static const long double POWERS[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,
                                     1e10L, 1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L,
                                     1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
enum { LARGEST_POWER = 27, LARGEST_OF_DOUBLE = 22, MOST_DIGITS = 19 };
static const uint64_t EXACT_IN_DOUBLE = UINT64_C(1) << 53;

/* Set value to digits times ten to the power of exponent, rounded once; return 0 where that needs more precision. */
static int scaled(uint64_t digits, int exponent, double *value) {
    if (FLT_EVAL_METHOD == 0 && digits <= EXACT_IN_DOUBLE && -LARGEST_OF_DOUBLE <= exponent && exponent <= LARGEST_OF_DOUBLE) {
        const double power = (double)POWERS[exponent < 0 ? -exponent : exponent];
        *value = exponent < 0 ? (double)digits / power : (double)digits * power;
        return 1;
    }
#if LDBL_MANT_DIG == 64 || LDBL_MANT_DIG == 113
    if (-LARGEST_POWER <= exponent && exponent <= LARGEST_POWER) {
        /* Rounded to a long double and then to a double: the same as once, unless a hair decides. */
        const long double wide = exponent < 0 ? digits / POWERS[-exponent] : digits * POWERS[exponent];
        *value = (double)wide;
        return (double)(wide * (1 - LDBL_EPSILON)) == (double)(wide * (1 + LDBL_EPSILON));
    }
#endif
    return 0;
}

/* Append digits to a number, and count those from the first on that is not zero; return what is behind them. */
static const uint8_t *read_digits(const uint8_t *at, const uint8_t *end, uint64_t *number, int *significant) {
    for (; is_digit(at, end); at++) {
        *number = 10 * *number + (*at - '0');
        *significant += *significant || *at != '0';
    }
    return at;
}

/* Read a number; return what is behind it, or NULL where none stands there. sure becomes 0 where the value is not
 * known to the last bit. */
static const uint8_t *read_number(const uint8_t *begin, const uint8_t *text_end, double *value, int *sure) {
    const uint8_t *const end = text_end - begin > LONGEST_NUMBER ? begin + LONGEST_NUMBER + 1 : text_end;
    const uint8_t *at = begin, *first, *mark;
    const int negative = at < end && *at == '-';
    uint64_t digits = 0;
    int significant = 0, exponent = 0, known = 1;
    if (negative || (at < end && *at == '+')) at++;
    first = at;
    at = read_digits(at, end, &digits, &significant);
    int64_t written = at - first;
    if (at < end && *at == '.') {
        mark = ++at;
        at = read_digits(at, end, &digits, &significant);
        exponent = (int)(mark - at);
        written += at - mark;
    }
    if (written) {
        const uint8_t *power = at + 1;
        if (at < end && (*at | 0x20) == 'e') {
            const int below = power < end && *power == '-';
            if (below || (power < end && *power == '+')) power++;
            if (is_digit(power, end)) {
                int number = 0;
                for (; is_digit(power, end); power++)
                    if (number < 10000) number = 10 * number + (*power - '0');
                exponent += below ? -number : number;
                at = power;
            }
        }
        known = significant <= MOST_DIGITS && scaled(digits, exponent, value);
    } else if ((at = skip_word(first, end, "nan")) != first) { /* and no point alone */
        *value = NAN;
    } else if ((at = skip_word(first, end, "inf")) != first) {
        at = skip_word(at, end, "inity");
        *value = INFINITY;
    } else {
        return NULL;
    }
    if (at - begin > LONGEST_NUMBER) return NULL;
    if (negative) *value = -*value;
    *sure &= known;
    return at;
}

/* Read digits, of which a double holds all; return what is behind them, or NULL where there are none, or more. */
static const uint8_t *read_count(const uint8_t *begin, const uint8_t *end, double *value) {
    const uint8_t *at = begin;
    uint64_t digits = 0;
    for (; is_digit(at, end) && at - begin <= LONGEST_COUNT; at++) digits = 10 * digits + (*at - '0');
    *value = (double)digits;
    return at == begin || at - begin > LONGEST_COUNT ? NULL : at;
}

/* Return the first of some bytes that is the wanted one, or NULL where none is, or a line or refresh ends before. */
static const uint8_t *find_on_line(const uint8_t *begin, uint64_t length, uint8_t wanted) {
    const uint8_t *const found = memchr(begin, wanted, length);
    if (!found || memchr(begin, '\n', (size_t)(found - begin)) || memchr(begin, '\r', (size_t)(found - begin)))
        return NULL;
    return found;
}

/* One part of a template, as scanning.py encodes them: its kind, a number, and the bytes of a literal. */
static uint32_t number_of(const uint8_t *part) {
    return part[1] | (uint32_t)part[2] << 8 | (uint32_t)part[3] << 16 | (uint32_t)part[4] << 24;
}

/* Read a template at places of a text.
 *
 * ends: where each ends, NO_FIT, or UNSURE where it fits and a value is not known to the last bit; [count].
 * values: of its numbers, [count, num_values]. spans: where its gaps begin and end, [count, num_spans, 2]. */
void scan_template(const uint8_t *parts, int64_t parts_length, const uint8_t *text, int64_t length,
                   const int64_t *starts, int64_t count, int64_t *ends, double *values, int64_t num_values,
                   int64_t *spans, int64_t num_spans) {
    const uint8_t *const end = text + length, *const last = parts + parts_length;
    for (int64_t index = 0; index < count; index++) {
        ends[index] = NO_FIT;
        if (starts[index] < 0 || starts[index] > length) continue;
        const uint8_t *at = text + starts[index], *part = parts;
        double *value = values + index * num_values;
        int64_t *span = spans + 2 * index * num_spans;
        int sure = 1;
        while (part < last && at) {
            const uint32_t number = number_of(part);
            switch (*part) {
            case LITERAL:
                at = (uint64_t)(end - at) >= number && !memcmp(at, part + 5, number) ? at + number : NULL;
                part += 5 + number;
                break;
            case NUMBER:
                at = read_number(at, end, value++, &sure);
                part += 5;
                break;
            case COUNT:
                at = read_count(at, end, value++);
                part += 5;
                break;
            default: { /* UNTIL: one byte to number bytes, up to the byte behind the five */
                const uint64_t left = (uint64_t)(end - at), most = number + UINT64_C(1);
                const uint8_t *const stop = find_on_line(at, left < most ? left : most, part[5]);
                if (stop && stop != at) {
                    *span++ = at - text;
                    *span++ = stop - text;
                    at = stop;
                } else {
                    at = NULL;
                }
                part += 6;
            }
            }
        }
        if (at) ends[index] = sure ? at - text : UNSURE;
    }
}

/* Tell of each piece of a text whether it has the bytes of the one before it; the first has not. */
void scan_repeats(const uint8_t *text, const int64_t *begins, const int64_t *ends, int64_t count, uint8_t *repeats) {
    if (count) repeats[0] = 0;
    for (int64_t index = 1; index < count; index++) {
        const int64_t size = ends[index] - begins[index];
        repeats[index] = size == ends[index - 1] - begins[index - 1] &&
                         !memcmp(text + begins[index], text + begins[index - 1], (size_t)size);
    }
}

/* Copy pieces of a text one behind the other. */
void scan_join(const uint8_t *text, const int64_t *begins, const int64_t *ends, int64_t count, uint8_t *joined) {
    for (int64_t index = 0; index < count; index++) {
        memcpy(joined, text + begins[index], (size_t)(ends[index] - begins[index]));
        joined += ends[index] - begins[index];
    }
}
