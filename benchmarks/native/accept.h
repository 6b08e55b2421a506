/*
 * accept: the answer to a handshake's key, for both sides. RFC 6455, 4.2.2: the key and
 * "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", SHA-1, base64.
 */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { ACCEPT_ROOM = 29 };

static void base64(const unsigned char *from, size_t n, char *to) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t group = (uint32_t)from[i] << 16;
        if (i + 1 < n) group |= (uint32_t)from[i + 1] << 8;
        if (i + 2 < n) group |= from[i + 2];
        *to++ = digits[group >> 18];
        *to++ = digits[group >> 12 & 63];
        *to++ = i + 1 < n ? digits[group >> 6 & 63] : '=';
        *to++ = i + 2 < n ? digits[group & 63] : '=';
    }
    *to = '\0';
}

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

/* SHA-1 (FIPS 180-4, 6.1) of less than 120 bytes, which is all that a handshake asks for. */
static void sha1(const char *from, size_t n, unsigned char digest[20]) {
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    unsigned char padded[128] = {0};
    size_t size = n + 9 <= 64 ? 64 : 128;
    memcpy(padded, from, n);
    padded[n] = 0x80;
    padded[size - 2] = (unsigned char)(n * 8 >> 8);
    padded[size - 1] = (unsigned char)(n * 8);
    for (size_t block = 0; block < size; block += 64) {
        uint32_t w[80];
        for (int i = 0; i < 16; i++) {
            const unsigned char *p = padded + block + 4 * i;
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        }
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? ((b & c) | (~b & d)) + 0x5A827999
                         : i < 40 ? (b ^ c ^ d) + 0x6ED9EBA1
                         : i < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8F1BBCDC
                                  : (b ^ c ^ d) + 0xCA62C1D6;
            uint32_t next = rotate(a, 5) + f + e + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = next;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void accept_key(const char *key, char accept[ACCEPT_ROOM]) {
    unsigned char digest[20];
    char salted[64];
    snprintf(salted, sizeof salted, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(salted, strlen(salted), digest);
    base64(digest, sizeof digest, accept);
}
