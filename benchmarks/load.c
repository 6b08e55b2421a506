/*
 * load: the clients of every benchmark, all in one process.
 *
 * Rule 1: it is never the bottleneck. One read takes what the kernel has, frames are checked in place, and a copy costs
 *         some ten nanoseconds.
 * Rule 2: it believes nothing. Every frame is parsed and every copy is checked: right sender, next in that sender's
 *         order; one copy in SAMPLE is compared byte by byte. What is lost, doubled, reordered or corrupt ends the run.
 * Rule 3: rounds are closed. Each sender writes its messages of a round at once; the next round starts when every
 *         expected copy has arrived everywhere. So nothing piles up, and no server looks fast by dropping.
 *
 *   load --port P --mode chat|echo|idle [--clients N] [--senders N] [--messages K] [--size S] [--publish-to-self]
 *        [--text FILE] [--deflate] [--warmup SECONDS] [--seconds SECONDS] [--rounds LIMIT] [--timeout SECONDS] [--marks]
 *
 *   chat   every client hears every message, its own only with --publish-to-self
 *   echo   every client hears its own messages
 *   idle   prints OPEN, holds the connections until stdin closes
 *
 * --text: every message is the content of this file, with the name of the message written over its beginning.
 * --deflate (one sender, and built with -DDEFLATE -lz): offer permessage-deflate, and insist that each message of the
 * server stands for itself. The first copy of a message is inflated and compared whole; a copy of the same bytes needs
 * no more than that, any other is inflated as well. What comes plain is told apart.
 *
 * With --marks it prints START before the counted rounds and END after them, and each time waits for a line on stdin,
 * so that whoever drives it can read the server's clocks while both sides rest. The last line on stdout is one JSON
 * object. Exit code 1 and an "error" in that object: the server (or this file) is wrong, and no number counts.
 *
 * Linux (epoll) and any other POSIX system (poll). Nothing but libc, and zlib for --deflate.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#endif
#ifdef DEFLATE
#include <zlib.h>
#endif

enum {
    READ_SIZE = 256 * 1024, /* bytes one read may take */
    NAME_SIZE = 8,          /* a message starts with its name: 3 characters of sender, 5 of sequence number */
    SEQUENCE_MASK = (1 << 30) - 1,
    SENDERS_MAX = 1 << 18,
    SAMPLE = 16, /* one copy in this many is compared whole */
    HEAD_MAX = 4096,
    HEADER_MAX = 14, /* RFC 6455, 5.2: 2 bytes, 8 of length, 4 of mask */
};

typedef enum { CHAT, ECHO, IDLE } Mode;

typedef struct {
    int fd;
    uint32_t index;
    uint32_t expected; /* copies that a round owes to this client */
    uint32_t missing;  /* of those, not here yet */
    uint32_t sequence; /* of the next message it sends */
    unsigned char *out; /* senders only: the frames of one round */
    size_t out_size, out_sent;
    unsigned char *carry; /* the beginning of a frame whose end has not come; allocated when first needed */
    size_t carried;
} Client;

static struct {
    int port;
    Mode mode;
    uint32_t clients, senders, messages;
    size_t size;
    const char *text;
    int publish_to_self, deflate, marks;
    double warmup, seconds, timeout;
    uint64_t rounds;
} options = {
    .clients = 16, .messages = 100, .size = 32, .warmup = 1, .seconds = 3, .timeout = 60, .rounds = UINT64_MAX,
};

static Client *clients;
static uint32_t *heard;  /* per listener and sender: the sequence number that must come next */
static uint64_t missing; /* copies that the present round still owes, over all clients */
static uint64_t sent, received, compressed, bytes;
static double deadline;

static unsigned char header[HEADER_MAX]; /* how every copy starts: RFC 6455, 5.2 leaves one way to write a length */
static size_t header_size;
static unsigned char *text; /* a message; its name is written over the first NAME_SIZE bytes */
static unsigned char *input; /* what was carried over, and behind it what one read took */

/* Time and failure */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double cpu_seconds(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    char words[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    for (char *p = words; *p; p++)
        if (*p < ' ' || *p == '"' || *p == '\\') *p = '?'; /* a server's own words may be in it, and it goes into JSON */
    fprintf(stderr, "load: %s\n", words);
    printf("{\"errors\": 1, \"error\": \"%s\"}\n", words);
    fflush(stdout);
    _exit(1);
}

/* The last resort, for a read or a connect that never returns; a round that hangs is told in detail by its own check. */
static void out_of_time(int signal_number) {
    static const char words[] = "load: out of time\n{\"errors\": 1, \"error\": \"out of time\"}\n";
    (void)signal_number;
    if (write(STDERR_FILENO, words, 18) < 0 || write(STDOUT_FILENO, words + 18, sizeof words - 19) < 0) _exit(2);
    _exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) fail("out of memory");
    return memory;
}

/* Randomness: xorshift64*, seeded from the system. Masks need not be secret from the server they are sent to. */

static uint64_t random_state;

static void seed(void) {
    int fd = open("/dev/urandom", O_RDONLY);
    if (fd < 0 || read(fd, &random_state, sizeof random_state) != sizeof random_state) fail("no /dev/urandom");
    close(fd);
    random_state |= 1;
}

static uint64_t next_random(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1DULL;
}

/* A mask of zero would let a server skip the work, and every byte of it must do its part. */
static uint32_t next_mask(void) { return (uint32_t)(next_random() >> 32) | 0x01010101U; }

/* Names: what a message says of itself, six bits a character, all of them printable ASCII ('0' to 'o') */

static void write_name(unsigned char *p, uint32_t sender, uint32_t sequence) {
    for (int i = 0; i < 3; i++) p[i] = (unsigned char)('0' + (sender >> 6 * i & 63));
    for (int i = 0; i < 5; i++) p[3 + i] = (unsigned char)('0' + (sequence >> 6 * i & 63));
}

static uint32_t read_digits(const unsigned char *p, int count) {
    uint32_t value = 0;
    for (int i = 0; i < count; i++) value |= (uint32_t)(p[i] - '0') << 6 * i;
    return value;
}

/* Writing */

static size_t write_header(unsigned char *p, unsigned char first, size_t size, unsigned char mask_bit) {
    p[0] = first;
    if (size < 126) {
        p[1] = (unsigned char)(mask_bit | size);
        return 2;
    }
    int width = size < 65536 ? 2 : 8;
    p[1] = (unsigned char)(mask_bit | (width == 2 ? 126 : 127));
    for (int i = 0; i < width; i++) p[2 + i] = (unsigned char)((uint64_t)size >> 8 * (width - 1 - i));
    return (size_t)(2 + width);
}

/* Returns the end of the frame. May write up to seven bytes behind it: `to` and `payload` have room for whole words. */
static unsigned char *write_frame(unsigned char *to, unsigned char first, const unsigned char *payload, size_t size) {
    uint32_t mask = next_mask();
    uint64_t mask_word = (uint64_t)mask << 32 | mask;
    to += write_header(to, first, size, 0x80);
    memcpy(to, &mask, 4);
    to += 4;
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word;
        memcpy(&word, payload + i, 8);
        word ^= mask_word;
        memcpy(to + i, &word, 8);
    }
    return to + size;
}

static void watch(Client *client);
static void watch_writable(Client *client, int on);

static void flush_out(Client *client) {
    while (client->out_sent < client->out_size) {
        ssize_t n = write(client->fd, client->out + client->out_sent, client->out_size - client->out_sent);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            watch_writable(client, 1);
            return;
        }
        if (n < 0) fail("client %u cannot write: %s", client->index, strerror(errno));
        client->out_sent += (size_t)n;
    }
    watch_writable(client, 0);
}

static void send_round(Client *client) {
    unsigned char *p = client->out;
    for (uint32_t i = 0; i < options.messages; i++) {
        write_name(text, client->index, client->sequence);
        client->sequence = (client->sequence + 1) & SEQUENCE_MASK;
        p = write_frame(p, 0x81, text, options.size);
    }
    client->out_size = (size_t)(p - client->out);
    client->out_sent = 0;
    sent += options.messages;
    flush_out(client);
}

/* Control frames are so rare that they may go straight to the socket, between rounds of our own writing. */
static void send_control(Client *client, unsigned char first, const unsigned char *payload, size_t size) {
    unsigned char padded[128 + 8] = {0}, frame[HEADER_MAX + 128 + 8];
    memcpy(padded, payload, size);
    size_t n = (size_t)(write_frame(frame, first, padded, size) - frame);
    if (client->out_sent < client->out_size) fail("client %u was pinged in the middle of its own write", client->index);
    if (write(client->fd, frame, n) != (ssize_t)n) fail("client %u cannot write a control frame", client->index);
}

/* Reading */

static void hear(Client *client, const unsigned char *payload) {
    uint32_t sender = read_digits(payload, 3), sequence = read_digits(payload + 3, 5);
    if (sender >= options.senders) fail("client %u got a corrupt name", client->index);
    int is_own = sender == client->index;
    if (options.mode == ECHO ? !is_own : is_own && !options.publish_to_self)
        fail("client %u got a message of client %u that is not for it", client->index, sender);

    uint32_t *next = options.mode == ECHO ? &heard[sender] : &heard[(size_t)client->index * options.senders + sender];
    if (sequence != *next)
        fail("client %u got message %u of client %u where %u must come (lost, doubled or reordered)", client->index,
             sequence, sender, *next);
    *next = (sequence + 1) & SEQUENCE_MASK;

    if (client->missing == 0) fail("client %u got more copies than were sent", client->index);
    client->missing--;
    missing--;
    if (received++ % SAMPLE == 0 && memcmp(payload + NAME_SIZE, text + NAME_SIZE, options.size - NAME_SIZE) != 0)
        fail("client %u got a corrupt message", client->index);
}

#ifdef DEFLATE

/* A message of the present round as it came over the wire: what was inflated and compared once. */
typedef struct {
    uint32_t sequence;
    size_t size; /* 0: nothing yet */
    unsigned char *wire;
} Form;

static Form *forms; /* one for each message of a round */
static unsigned char *plain;
static z_stream inflater;

static size_t wire_room(void) { return options.size + options.size / 64 + 64; }

static void make_forms(void) {
    forms = allocate(options.messages, sizeof *forms);
    for (uint32_t i = 0; i < options.messages; i++) forms[i].wire = allocate(1, wire_room());
    plain = allocate(1, options.size + 1);
    if (inflateInit2(&inflater, -15) != Z_OK) fail("zlib does not start");
}

static void inflate_message(const Client *client, const unsigned char *wire, size_t size) {
    static const unsigned char tail[] = {0, 0, 255, 255}; /* RFC 7692, 7.2.2 */
    inflateReset(&inflater);
    inflater.next_out = plain;
    inflater.avail_out = (uInt)options.size + 1;
    const unsigned char *parts[] = {wire, tail};
    size_t sizes[] = {size, sizeof tail};
    for (int i = 0; i < 2; i++) {
        inflater.next_in = (unsigned char *)parts[i];
        inflater.avail_in = (uInt)sizes[i];
        int code = inflate(&inflater, Z_SYNC_FLUSH);
        if (code == Z_STREAM_END) break; /* a block with BFINAL set: 7.2.3.4 */
        if (code != Z_OK && code != Z_BUF_ERROR) fail("client %u got what does not inflate", client->index);
    }
    if (inflater.avail_out != 1) fail("client %u got a compressed message of a wrong length", client->index);
    if (memcmp(plain + NAME_SIZE, text + NAME_SIZE, options.size - NAME_SIZE) != 0)
        fail("client %u got a corrupt compressed message", client->index);
}

static void hear_compressed(Client *client, const unsigned char *wire, size_t size) {
    uint32_t sequence = heard[client->index]; /* the one sender's next */
    Form *form = &forms[sequence % options.messages];
    if (!form->size || form->sequence != sequence || form->size != size || memcmp(form->wire, wire, size) != 0) {
        inflate_message(client, wire, size);
        form->sequence = read_digits(plain + 3, 5);
        form->size = size;
        memcpy(form->wire, wire, size);
    } else {
        write_name(plain, 0, sequence); /* the same bytes as those that were inflated */
    }
    compressed++;
    hear(client, plain);
}

/* A text frame of any length. Returns the bytes used, 0 means: need more, or something else. */
static size_t hear_any(Client *client, const unsigned char *p, size_t n) {
    if (n < 2 || (p[0] & 0xBF) != 0x81 || p[1] & 0x80) return 0;
    size_t size = p[1], at = 2;
    if (size >= 126) {
        at = size == 126 ? 4 : 10;
        if (n < at) return 0;
        size = 0;
        for (size_t i = 2; i < at; i++) size = size << 8 | p[i];
    }
    if (size > wire_room()) fail("client %u got a frame of %zu bytes", client->index, size);
    if (n < at + size) return 0;
    if (p[0] & 0x40) hear_compressed(client, p + at, size);
    else if (size == options.size) hear(client, p + at);
    else fail("client %u got a plain frame of a wrong length", client->index);
    return at + size;
}

#else

static void make_forms(void) { fail("this load was built without zlib: its headers are missing"); }
static size_t wire_room(void) { return options.size; }
static size_t hear_any(Client *client, const unsigned char *p, size_t n) { return (void)client, (void)p, n * 0; }

#endif

/* Anything but a whole copy in the expected form. Returns the bytes used, 0 means: need more. */
static size_t hear_uncommon(Client *client, const unsigned char *p, size_t n) {
    if (n < 2) return 0;
    unsigned opcode = p[0] & 0x0F;
    size_t size = p[1] & 0x7F;
    if (p[0] & (options.deflate && opcode == 1 ? 0x30 : 0x70)) fail("client %u got reserved bits that were not negotiated", client->index);
    if (p[1] & 0x80) fail("client %u got a masked frame", client->index);
    if (opcode == 1) {
        if (!(p[0] & 0x80)) fail("client %u got a fragmented message", client->index);
        if (!options.deflate && memcmp(p, header, n < header_size ? n : header_size) != 0)
            fail("client %u got a frame of a wrong length", client->index);
        return 0;
    }
    if (opcode < 8) fail("client %u got opcode %u, not text", client->index, opcode);
    if (!(p[0] & 0x80) || size > 125) fail("client %u got a bad control frame", client->index);
    if (n < 2 + size) return 0;
    if (opcode == 8) fail("client %u was closed with code %d", client->index, size < 2 ? 1005 : p[2] << 8 | p[3]);
    if (opcode == 9) send_control(client, 0x8A, p + 2, size);
    return 2 + size;
}

/* Returns the bytes of whole frames; what is behind them is the beginning of a frame. */
static size_t consume(Client *client, const unsigned char *p, size_t n) {
    const unsigned char *start = p;
    size_t frame_size = header_size + options.size;
    for (;;) {
        if (!options.deflate && n >= frame_size && memcmp(p, header, header_size) == 0) {
            hear(client, p + header_size);
            p += frame_size;
            n -= frame_size;
            continue;
        }
        size_t used = options.deflate ? hear_any(client, p, n) : 0;
        if (used == 0) used = hear_uncommon(client, p, n);
        if (used == 0) return (size_t)(p - start);
        p += used;
        n -= used;
    }
}

static size_t carry_size(void) { return HEADER_MAX + 128 + (options.deflate ? wire_room() : options.size); }

static void keep_carry(Client *client, const unsigned char *p, size_t n) {
    if (n > 0 && !client->carry) client->carry = allocate(1, carry_size());
    if (n > 0) memcpy(client->carry, p, n);
    client->carried = n;
}

static void read_ready(Client *client) {
    size_t held = client->carried;
    if (held > 0) memcpy(input, client->carry, held);
    ssize_t n = read(client->fd, input + held, READ_SIZE);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n < 0) fail("client %u cannot read: %s", client->index, strerror(errno));
    if (n == 0) fail("client %u lost its connection", client->index);
    bytes += (uint64_t)n;
    size_t all = held + (size_t)n;
    size_t used = consume(client, input, all);
    keep_carry(client, input + used, all - used);
}

/* Waiting: who is ready? epoll where there is one, so that a thousand listeners cost no more than the ready ones. */

#ifdef __linux__

static int ready_fd = -1;

static void watch(Client *client) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (ready_fd < 0 && (ready_fd = epoll_create1(0)) < 0) fail("epoll_create1: %s", strerror(errno));
    if (epoll_ctl(ready_fd, EPOLL_CTL_ADD, client->fd, &event) < 0) fail("epoll_ctl: %s", strerror(errno));
}

static unsigned char *is_watched_writable; /* per client, so that the common write costs no system call */

static void watch_writable(Client *client, int on) {
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = client};
    if (is_watched_writable[client->index] == on) return;
    is_watched_writable[client->index] = (unsigned char)on;
    if (epoll_ctl(ready_fd, EPOLL_CTL_MOD, client->fd, &event) < 0) fail("epoll_ctl: %s", strerror(errno));
}

static void make_watches(void) { is_watched_writable = allocate(options.clients, 1); }

/* Returns how many were ready, 0 after `milliseconds`. */
static int handle_ready(int milliseconds) {
    struct epoll_event events[256];
    int n = epoll_wait(ready_fd, events, 256, milliseconds);
    if (n < 0 && errno != EINTR) fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < n; i++) {
        Client *client = events[i].data.ptr;
        if (events[i].events & EPOLLOUT) flush_out(client);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_ready(client);
    }
    return n;
}

#else

static struct pollfd *watches; /* one per client, by index */

static void watch(Client *client) {
    watches[client->index].fd = client->fd;
    watches[client->index].events = POLLIN;
}

static void watch_writable(Client *client, int on) {
    watches[client->index].events = (short)(POLLIN | (on ? POLLOUT : 0));
}

static void make_watches(void) { watches = allocate(options.clients, sizeof *watches); }

/* Returns how many were ready, 0 after `milliseconds`. */
static int handle_ready(int milliseconds) {
    int n = poll(watches, options.clients, milliseconds);
    if (n < 0 && errno != EINTR) fail("poll: %s", strerror(errno));
    int left = n;
    for (uint32_t i = 0; left > 0 && i < options.clients; i++) {
        short ready = watches[i].revents;
        if (!ready) continue;
        left--;
        if (ready & POLLOUT) flush_out(&clients[i]);
        if (ready & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) read_ready(&clients[i]);
    }
    return n;
}

#endif

/* The opening handshake, RFC 6455, 4.1 */

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

/* Writes the value of the named field into `value`, or nothing. Returns whether the head has it. */
static int find_field(const char *head, const char *name, char *value, size_t room) {
    size_t name_size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, name_size) != 0 || line[2 + name_size] != ':') continue;
        const char *from = line + 2 + name_size + 1;
        from += strspn(from, " \t");
        size_t n = strcspn(from, " \t\r");
        if (n >= room) n = room - 1;
        memcpy(value, from, n);
        value[n] = '\0';
        return 1;
    }
    return 0;
}

static void shake_hands(Client *client) {
    unsigned char nonce[16], digest[20];
    uint64_t halves[2] = {next_random(), next_random()};
    char key[25], salted[64], accept[29], request[512], head[HEAD_MAX + 1], value[64];
    memcpy(nonce, halves, sizeof nonce);
    base64(nonce, sizeof nonce, key);
    int n = snprintf(request, sizeof request,
                     "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
                     options.port, key, options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    if (write(client->fd, request, (size_t)n) != n) fail("client %u cannot write its handshake", client->index);

    size_t size = 0;
    char *end = NULL;
    while (!end) {
        ssize_t got = size < HEAD_MAX ? read(client->fd, head + size, HEAD_MAX - size) : 0;
        if (got <= 0) fail("client %u got no whole answer to its handshake", client->index);
        size += (size_t)got;
        head[size] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    size_t head_size = (size_t)(end - head) + 4;
    if (strncmp(head, "HTTP/1.1 101", 12) != 0) fail("client %u got %.12s to its handshake", client->index, head);

    /* RFC 6455, 4.2.2: the key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", SHA-1, base64 */
    snprintf(salted, sizeof salted, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(salted, strlen(salted), digest);
    base64(digest, sizeof digest, accept);
    if (!find_field(head, "Sec-WebSocket-Accept", value, sizeof value) || strcmp(value, accept) != 0)
        fail("client %u got a wrong Sec-WebSocket-Accept", client->index);
    if (find_field(head, "Sec-WebSocket-Extensions", value, sizeof value) != options.deflate)
        fail("client %u got %s", client->index, options.deflate ? "no compression" : "an extension that it did not offer");
    if (options.deflate && !strstr(head, "server_no_context_takeover"))
        fail("client %u got a server whose messages do not stand for themselves", client->index);

    size_t behind = size - head_size; /* frames may come in one read with the head */
    memcpy(input, head + head_size, behind);
    size_t used = consume(client, input, behind);
    if (behind - used > carry_size()) fail("client %u got more behind the handshake than can be carried", client->index);
    keep_carry(client, input + used, behind - used);
}

static void open_client(Client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0) fail("client %u has no socket: %s", client->index, strerror(errno));
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("client %u cannot connect: %s", client->index, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    shake_hands(client);
    if (fcntl(client->fd, F_SETFL, O_NONBLOCK) < 0) fail("fcntl: %s", strerror(errno));
    watch(client);
}

/* Rounds */

static void play_round(void) {
    for (uint32_t i = 0; i < options.clients; i++) {
        clients[i].missing = clients[i].expected;
        missing += clients[i].expected;
    }
    for (uint32_t i = 0; i < options.senders; i++) send_round(&clients[i]);
    while (missing > 0) {
        if (handle_ready(100) != 0 || now() < deadline) continue;
        for (uint32_t i = 0; i < options.clients; i++)
            if (clients[i].missing)
                fail("out of time: client %u misses %u of %u copies, all clients together %llu", i, clients[i].missing,
                     clients[i].expected, (unsigned long long)missing);
    }
}

/* Returns the number of rounds played. At least one; then until the seconds or the rounds are used up. */
static uint64_t play(double seconds, uint64_t limit) {
    double end = now() + seconds;
    uint64_t rounds = 0;
    do {
        play_round();
        rounds++;
    } while (rounds < limit && now() < end);
    return rounds;
}

static void mark(const char *word) {
    char c;
    if (!options.marks) return;
    printf("%s\n", word);
    fflush(stdout);
    do {
        if (read(STDIN_FILENO, &c, 1) != 1) fail("stdin closed at %s", word);
    } while (c != '\n');
}

static void play_rounds(void) {
    play(options.warmup, UINT64_MAX);
    mark("START");
    sent = received = compressed = bytes = 0;
    double started = now(), cpu_started = cpu_seconds();
    uint64_t rounds = play(options.seconds, options.rounds);
    double seconds = now() - started, cpu = cpu_seconds() - cpu_started;
    uint64_t counted = received, counted_compressed = compressed;
    mark("END");

    handle_ready(50); /* nothing more may come; if it does, `hear` fails */
    printf("{\"clients\": %u, \"rounds\": %llu, \"sent\": %llu, \"received\": %llu, \"compressed\": %llu, "
           "\"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"errors\": 0}\n",
           options.clients, (unsigned long long)rounds, (unsigned long long)sent, (unsigned long long)counted,
           (unsigned long long)counted_compressed, (unsigned long long)bytes, seconds, cpu);
}

static void hold(void) {
    struct pollfd *all = allocate(options.clients + 1, sizeof *all);
    for (uint32_t i = 0; i < options.clients; i++) all[i] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
    all[options.clients] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    double started = now(), cpu_started = cpu_seconds();
    for (;;) {
        char c;
        if (poll(all, options.clients + 1, -1) < 0 && errno != EINTR) fail("poll: %s", strerror(errno));
        if (all[options.clients].revents && read(STDIN_FILENO, &c, 1) == 0) break;
        for (uint32_t i = 0; i < options.clients; i++)
            if (all[i].revents) read_ready(&clients[i]);
    }
    printf("{\"clients\": %u, \"rounds\": 0, \"sent\": 0, \"received\": 0, \"compressed\": 0, \"bytes\": %llu, "
           "\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"errors\": 0}\n",
           options.clients, (unsigned long long)bytes, now() - started, cpu_seconds() - cpu_started);
    free(all);
}

/* The command line */

static double number(const char *name, const char *words, double low, double high) {
    char *end;
    double value = strtod(words, &end);
    if (*words == '\0' || *end != '\0' || !(value >= low && value <= high))
        fail("--%s must be a number from %.0f to %.0f", name, low, high);
    return value;
}

static void read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'},     {"mode", 1, 0, 'm'},    {"clients", 1, 0, 'c'},
        {"senders", 1, 0, 'w'},  {"messages", 1, 0, 'k'}, {"size", 1, 0, 's'},
        {"warmup", 1, 0, 'u'},   {"seconds", 1, 0, 't'}, {"rounds", 1, 0, 'r'},
        {"timeout", 1, 0, 'o'},  {"publish-to-self", 0, 0, 'P'}, {"marks", 0, 0, 'M'},
        {"text", 1, 0, 'x'},     {"deflate", 0, 0, 'D'},
        {0, 0, 0, 0},
    };
    int option, index, has_mode = 0;
    while ((option = getopt_long(argc, argv, "", names, &index)) != -1) {
        const char *name = option == '?' ? "" : names[index].name;
        switch (option) {
        case 'p': options.port = (int)number(name, optarg, 1, 65535); break;
        case 'c': options.clients = (uint32_t)number(name, optarg, 1, 1000000); break;
        case 'w': options.senders = (uint32_t)number(name, optarg, 1, SENDERS_MAX); break;
        case 'k': options.messages = (uint32_t)number(name, optarg, 1, 1000000); break;
        case 's': options.size = (size_t)number(name, optarg, NAME_SIZE, 16 << 20); break;
        case 'u': options.warmup = number(name, optarg, 0, 3600); break;
        case 't': options.seconds = number(name, optarg, 0, 3600); break;
        case 'r': options.rounds = (uint64_t)number(name, optarg, 1, 1e15); break;
        case 'o': options.timeout = number(name, optarg, 1, 86400); break;
        case 'P': options.publish_to_self = 1; break;
        case 'M': options.marks = 1; break;
        case 'x': options.text = optarg; break;
        case 'D': options.deflate = 1; break;
        case 'm':
            has_mode = 1;
            if (strcmp(optarg, "chat") == 0) options.mode = CHAT;
            else if (strcmp(optarg, "echo") == 0) options.mode = ECHO;
            else if (strcmp(optarg, "idle") == 0) options.mode = IDLE;
            else fail("--mode must be chat, echo or idle");
            break;
        default: fail("unknown option; the head of load.c lists them");
        }
    }
    if (!options.port || !has_mode || optind < argc) fail("needs --port and --mode, and nothing but options");
    if (!options.senders) options.senders = options.clients;
    if (options.mode == IDLE) options.senders = 0;
    if (options.senders > options.clients) fail("--senders must not exceed --clients");
    if (options.deflate && (options.mode != CHAT || options.senders != 1)) fail("--deflate is for a chat with --senders 1");
    if (options.senders > SENDERS_MAX) fail("more than %d senders cannot be named", SENDERS_MAX);
}

/* Fills `text`, and sets the size of a message where it is that of a file. */
static void read_text(void) {
    FILE *file = options.text ? fopen(options.text, "rb") : NULL;
    if (options.text && !file) fail("cannot read %s: %s", options.text, strerror(errno));
    if (file) {
        if (fseek(file, 0, SEEK_END) != 0) fail("cannot read %s: %s", options.text, strerror(errno));
        options.size = (size_t)ftell(file);
        rewind(file);
        if (options.size < NAME_SIZE || options.size > 16 << 20) fail("a text has 8 bytes to 16 MiB");
    }
    text = allocate(1, options.size + 8);
    for (size_t i = 0; i < options.size; i++) text[i] = (unsigned char)('a' + i % 26);
    if (file) {
        if (fread(text, 1, options.size, file) != options.size) fail("cannot read all of %s", options.text);
        fclose(file);
    }
}

static uint32_t copies_expected_by(uint32_t index) {
    uint32_t is_sender = index < options.senders;
    if (options.mode == ECHO) return is_sender * options.messages;
    if (options.mode == CHAT) return (options.senders - (options.publish_to_self ? 0 : is_sender)) * options.messages;
    return 0;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, out_of_time);
    alarm((unsigned)options.timeout + 5);
    deadline = now() + options.timeout;
    seed();

    read_text();
    header_size = write_header(header, 0x81, options.size, 0);
    if (options.deflate) make_forms();
    input = allocate(1, carry_size() + (READ_SIZE > HEAD_MAX ? READ_SIZE : HEAD_MAX));
    clients = allocate(options.clients, sizeof *clients);
    heard = allocate(options.mode == CHAT ? (size_t)options.clients * options.senders : options.senders, sizeof *heard);
    make_watches();

    uint64_t copies = 0;
    for (uint32_t i = 0; i < options.clients; i++) {
        clients[i].index = i;
        clients[i].expected = copies_expected_by(i);
        copies += clients[i].expected;
        if (i < options.senders) clients[i].out = allocate(1, options.messages * (HEADER_MAX + options.size) + 8);
        open_client(&clients[i]);
    }
    if (options.mode != IDLE && copies == 0) fail("nobody would hear anything");
    printf("OPEN %u\n", options.clients);
    fflush(stdout);

    if (options.mode == IDLE) hold();
    else play_rounds();
    fflush(stdout);

    static const unsigned char normal_closure[] = {1000 >> 8, 1000 & 255};
    for (uint32_t i = 0; i < options.clients; i++) {
        send_control(&clients[i], 0x88, normal_closure, sizeof normal_closure);
        close(clients[i].fd);
    }
    return 0;
}
