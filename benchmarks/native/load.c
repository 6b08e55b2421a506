/*
 * load: the clients of every WebSocket benchmark, all in one process.
 *
 * Rule 1: it is never the bottleneck. One read takes what the kernel has, frames are checked in place, and a copy costs
 *         some ten nanoseconds. What it costs is told, so that whoever drives it can see whether this rule held.
 * Rule 2: it believes nothing. Every frame is parsed and every copy is counted and checked: right sender, next in
 *         that sender's order; one copy in SAMPLE is compared byte by byte (bun-chat: each). What is lost, doubled,
 *         reordered or corrupt ends the run.
 * Rule 3: loops are closed, so nothing piles up and no server looks fast by dropping. Where everybody talks, a client
 *         sends its next messages when it has heard as many copies as everybody's last ones come to; so the server
 *         never waits for the slowest. Where only some talk, and in bun-chat, there are rounds: the next one starts
 *         when every copy has arrived everywhere. Only --rate is open: it sends when it is time to, whatever the
 *         server does.
 *
 *   load --port P --mode chat|rooms|bun-chat|echo|connect|idle [--clients N] [--senders N] [--messages K] [--size S]
 *        [--publish-to-self] [--rooms N] [--rooms-each N] [--rate R] [--text FILE] [--deflate] [--unchecked]
 *        [--warmup SECONDS] [--seconds SECONDS] [--timeout SECONDS] [--marks]
 *
 *   chat      every client hears every message, its own only with --publish-to-self
 *   rooms     client i opens /?rooms=a,b,…, its --rooms-each rooms of all --rooms; the first one is where it talks
 *   bun-chat  Bun's own bench/websocket-server: client i opens /?name=Alice0 and sends its 50 texts, over and over;
 *             every client hears "Alice0: text" of everybody, itself included
 *   echo      every client hears its own messages
 *   connect   --clients at a time: connect, shake hands, close, again
 *   idle      prints OPEN, holds the connections until stdin closes
 *
 * --rate (chat and echo): message k is due at k / rate, and its latency is counted from when it was due, not from when
 * it was sent: time that it waited because the server, or this file, was busy with others belongs to it (what is called
 * correcting for coordinated omission). How late this file itself was is told as `lag`.
 * --text: every message is the content of this file, with the name of the message written over its beginning.
 * --deflate (one sender, and built with -DDEFLATE -lz): offer permessage-deflate, and insist that each message of the
 * server stands for itself. The first copy of a message is inflated and compared whole; a copy of the same bytes needs
 * no more than that, any other is inflated as well. What comes plain is told apart.
 * --unchecked: count frames and believe them. For floor.c alone, which has nothing to say.
 *
 * With --marks it prints START before the counted part and END after it, and each time waits for a line on stdin,
 * so that whoever drives it can read the server's clocks while both sides rest. The last line on stdout is one JSON
 * object. Exit code 1 and an "error" in that object: the server (or this file) is wrong, and no number counts.
 *
 * It talks to 127.0.0.1 only. Linux (epoll) and other POSIX systems (poll). Nothing but libc, and zlib for --deflate.
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

#include "accept.h"

enum {
    READ_SIZE = 256 * 1024, /* bytes one read may take */
    NAME_SIZE = 8,          /* a message starts with its name: 3 characters of sender, 5 of sequence number */
    SEQUENCE_MASK = (1 << 30) - 1,
    SENDERS_MAX = 1 << 18,
    SAMPLE = 16, /* one copy in this many is compared whole */
    LARGE = 16 * 1024, /* bytes of a message from which on it is checked as it comes, and masked only once */
    TEXTS = 50,        /* of bun-chat */
    TEXT_ROOM = 40,    /* bytes for one of them */
    LETTERS = 26,
    BUCKETS = 64 * 128,
    HEAD_MAX = 4096,
    HEADER_MAX = 14, /* RFC 6455, 5.2: 2 bytes, 8 of length, 4 of mask */
};

typedef enum { CHAT, ROOMS, BUN_CHAT, ECHO, CONNECT, IDLE } Mode;

typedef struct {
    int fd;
    uint32_t index;
    uint32_t expected; /* copies that a round owes to this client */
    int64_t missing;   /* of those, not here yet; below 0 where others are a round ahead */
    uint32_t sequence; /* of the next message it sends */
    unsigned char *out; /* senders only: the frames of one round */
    size_t out_size, out_sent;
    unsigned char *carry; /* the beginning of a frame whose end has not come; allocated when first needed */
    size_t carried;
    size_t body_left; /* of the large message that is coming */
    int is_sampled;   /* whether it is compared */
    int is_masked;    /* large messages only: the frames of a round stand in `out`, all but their names */
    unsigned char name[NAME_SIZE];
} Client;

static struct {
    int port;
    Mode mode;
    uint32_t clients, senders, messages;
    size_t size;
    const char *text;
    int publish_to_self, deflate, unchecked, marks;
    uint32_t rooms, rooms_each;
    double warmup, seconds, timeout, rate;
} options = {
    .clients = 16, .messages = 100, .size = 32, .rooms = 1, .rooms_each = 1, .warmup = 1, .seconds = 3, .timeout = 60,
};

static Client *clients;
static uint32_t *heard;  /* per listener and sender: the sequence number that must come next */
static uint64_t missing; /* copies that are owed, over all clients */
static uint64_t rounds, sent, received, compressed, bytes;
static double deadline;
static double refill_until; /* where everybody talks: until then a client that has heard enough sends again */
static double read_at;      /* --rate: when the bytes that are looked at were there */
static double stream_began; /* --rate: when its first message was due */
static uint32_t stream_sequence; /* --rate: the sequence number of each sender's first message */
static uint64_t latencies[BUCKETS], lags[BUCKETS];

static unsigned char header[HEADER_MAX]; /* how every copy starts: RFC 6455, 5.2 leaves one way to write a length */
static size_t header_size;
static unsigned char *text; /* a message; its name is written over the first NAME_SIZE bytes */
static unsigned char *input; /* what was carried over, and behind it what one read took */

static double spun; /* seconds in which it looked for something to read, and there was nothing */

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

/* Times go into buckets 1/128 wide of what they hold, so a percentile is right to 0.8 %. */
static void note(uint64_t *buckets, double seconds) {
    uint64_t ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    if (ns < 128) {
        buckets[ns]++;
        return;
    }
    int shift = 63 - __builtin_clzll(ns) - 7;
    buckets[(uint64_t)shift * 128 + (ns >> shift)]++;
}

static void print_buckets(const char *name, const uint64_t *buckets) {
    const char *comma = "";
    printf(", \"%s\": [", name);
    for (uint64_t i = 0; i < BUCKETS; i++) {
        if (!buckets[i]) continue;
        uint64_t shift = i < 256 ? 0 : i / 128 - 1; /* the highest time that falls into it, in nanoseconds */
        uint64_t high = ((i - shift * 128 + 1) << shift) - 1;
        printf("%s[%llu, %llu]", comma, (unsigned long long)high, (unsigned long long)buckets[i]);
        comma = ", ";
    }
    printf("]");
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    char words[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    for (char *p = words; *p; p++)
        if (*p < ' ' || *p == '"' || *p == '\\') *p = '?'; /* a server's own words may be in it; it goes into JSON */
    fprintf(stderr, "load: %s\n", words);
    printf("{\"errors\": 1, \"error\": \"%s\"}\n", words);
    fflush(stdout);
    _exit(1);
}

/* The last resort, for a read or a connect that never returns; a round that hangs is told in detail elsewhere. */
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

/* bun-chat: what bench/websocket-server/chat-client.mjs of Bun's repository sends, under the names that it gives */

#define WORDS "zoo", "kangaroo", "erlang", "elixir", "bun", "mochi", "typescript", "javascript"
#define QUESTIONS "What is the meaning of life?", "where is the bathroom?"
#define BLOCK "Hello World! 7", "Hello World! 8", "Hello World! 9", QUESTIONS, WORDS

static const char texts[TEXTS][TEXT_ROOM] = {
    "Hello World!", "Hello World! 1", "Hello World! 2", "Hello World! 3", "Hello World! 4", "Hello World! 5",
    "Hello World! 6", "Hello World! 7", "Hello World! 8", "Hello World! 9", QUESTIONS, WORDS, BLOCK,
    "Hello World! 7", "Hello World! 8", "Hello World! 9", "What is the meaning of life?", BLOCK};

static const char *const names[LETTERS] = {
    "Alice", "Bob",   "Charlie", "David", "Eve",   "Frank", "Grace",  "Heidi",  "Ivan",  "Judy",
    "Karl",  "Linda", "Mike",
    "Nancy", "Oscar", "Peggy", "Quentin", "Ruth",  "Steve", "Trudy",  "Ursula", "Victor", "Wendy", "Xavier", "Yvonne",
    "Zach"};

/* The whole frame of each text of each sender, as every listener must get it. */
typedef struct {
    unsigned char size, bytes[2 * TEXT_ROOM];
} Line;

static Line *lines;
static size_t name_sizes[LETTERS];

static void make_lines(void) {
    if (options.clients > LETTERS * 10) fail("bun-chat has names for %d clients", LETTERS * 10);
    lines = allocate((size_t)options.clients * TEXTS, sizeof *lines);
    for (int i = 0; i < LETTERS; i++) name_sizes[i] = strlen(names[i]);
    for (uint32_t i = 0; i < options.clients; i++) {
        for (uint32_t k = 0; k < TEXTS; k++) {
            Line *line = &lines[i * TEXTS + k];
            int n = snprintf((char *)line->bytes + 2, sizeof line->bytes - 2, "%s%u: %s", names[i % LETTERS],
                             i / LETTERS, texts[k]);
            line->bytes[0] = 0x81;
            line->bytes[1] = (unsigned char)n;
            line->size = (unsigned char)(n + 2);
        }
    }
}

/* Returns the end of the frame of this client's next message. */
static unsigned char *write_next(Client *client, unsigned char *to) {
    if (options.mode == BUN_CHAT) {
        const char *words = texts[client->sequence % TEXTS];
        to = write_frame(to, 0x81, (const unsigned char *)words, strlen(words));
    } else {
        write_name(text, client->index, client->sequence);
        to = write_frame(to, 0x81, text, options.size);
    }
    client->sequence = (client->sequence + 1) & SEQUENCE_MASK;
    return to;
}

/* The frames of the round before stand there: their masks and bodies serve again, only the names are new. */
static void rename_frames(Client *client) {
    size_t head_size = header_size + 4, frame_size = head_size + options.size;
    for (uint32_t i = 0; i < options.messages; i++) {
        unsigned char *frame = client->out + i * frame_size;
        write_name(frame + head_size, client->index, client->sequence);
        for (int k = 0; k < NAME_SIZE; k++) frame[head_size + k] ^= frame[header_size + k % 4];
        client->sequence = (client->sequence + 1) & SEQUENCE_MASK;
    }
}

static void send_round(Client *client) {
    if (client->is_masked) {
        rename_frames(client);
    } else {
        unsigned char *p = client->out;
        for (uint32_t i = 0; i < options.messages; i++) p = write_next(client, p);
        client->out_size = (size_t)(p - client->out);
        client->is_masked = options.size >= LARGE;
    }
    client->out_sent = 0;
    sent += options.messages;
    flush_out(client);
}

static size_t out_room(void) {
    size_t frame = HEADER_MAX + (options.mode == BUN_CHAT ? TEXT_ROOM : options.size);
    size_t round = options.messages * frame;
    return (options.rate > 0 && round < 256 * 1024 + frame ? 256 * 1024 + frame : round) + 8;
}

/* --rate: one message, behind what may still wait to be written. */
static void send_one(Client *client) {
    if (client->out_sent == client->out_size) client->out_sent = client->out_size = 0;
    if (client->out_size + HEADER_MAX + options.size + 8 > out_room()) {
        memmove(client->out, client->out + client->out_sent, client->out_size - client->out_sent);
        client->out_size -= client->out_sent;
        client->out_sent = 0;
        if (client->out_size + HEADER_MAX + options.size + 8 > out_room())
            fail("the server does not keep up with %.0f messages a second", options.rate);
    }
    client->out_size = (size_t)(write_next(client, client->out + client->out_size) - client->out);
    sent++;
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

static int hears(uint32_t listener, uint32_t sender) {
    int is_own = listener == sender;
    uint32_t rooms = options.rooms;
    switch (options.mode) {
    case CHAT: return !is_own || options.publish_to_self;
    case ROOMS: return !is_own && (sender % rooms + rooms - listener % rooms) % rooms < options.rooms_each;
    case BUN_CHAT: return 1;
    case ECHO: return is_own;
    default: return 0;
    }
}

static void count_copy(Client *client) {
    if (missing == 0) fail("client %u got more copies than were sent", client->index);
    client->missing--;
    missing--;
    received++;
}

static void hear_name(Client *client, const unsigned char *name) {
    uint32_t sender = read_digits(name, 3), sequence = read_digits(name + 3, 5);
    if (!options.unchecked) {
        if (sender >= options.senders) fail("client %u got a corrupt name", client->index);
        if (!hears(client->index, sender))
            fail("client %u got a message of client %u that is not for it", client->index, sender);
        size_t listener = options.mode == ECHO ? 0 : client->index;
        uint32_t *next = &heard[listener * options.senders + sender];
        if (sequence != *next)
            fail("client %u got message %u of client %u where %u must come (lost, doubled or reordered)", client->index,
                 sequence, sender, *next);
        *next = (sequence + 1) & SEQUENCE_MASK;
    }
    if (options.rate > 0) {
        uint64_t k = (uint64_t)((sequence - stream_sequence) & SEQUENCE_MASK) * options.senders + sender;
        note(latencies, read_at - (stream_began + (double)k / options.rate));
    }
    count_copy(client);
}

static void hear(Client *client, const unsigned char *payload) {
    hear_name(client, payload);
    if (received % SAMPLE == 0 && !options.unchecked &&
        memcmp(payload + NAME_SIZE, text + NAME_SIZE, options.size - NAME_SIZE) != 0)
        fail("client %u got a corrupt message", client->index);
}

/* Large messages are never held: the name, then the body piece by piece. Returns the bytes used, 0: need more. */
static size_t hear_large(Client *client, const unsigned char *p, size_t n) {
    size_t begin = header_size + NAME_SIZE;
    if (!client->body_left) {
        if (n < begin || memcmp(p, header, header_size) != 0) return 0;
        memcpy(client->name, p + header_size, NAME_SIZE);
        client->body_left = options.size - NAME_SIZE;
        client->is_sampled = received % SAMPLE == 0 && !options.unchecked;
        return begin;
    }
    size_t size = n < client->body_left ? n : client->body_left;
    if (client->is_sampled && memcmp(p, text + options.size - client->body_left, size) != 0)
        fail("client %u got a corrupt message", client->index);
    client->body_left -= size;
    if (!client->body_left) hear_name(client, client->name);
    return size;
}

/* One whole frame of bun-chat, every byte of it compared. Returns the bytes used, 0: need more, or something else. */
static size_t hear_line(Client *client, const unsigned char *p, size_t n) {
    if (n < 2 || p[0] != 0x81 || p[1] > 125 || n < (size_t)p[1] + 2) return 0;
    unsigned letter = p[2] - 'A'; /* the sender's name: its letter, and behind the name its digit */
    if (letter >= LETTERS || p[1] < name_sizes[letter] + 3) fail("client %u got a corrupt name", client->index);
    uint32_t sender = letter + LETTERS * (p[2 + name_sizes[letter]] - (uint32_t)'0');
    if (sender >= options.senders) fail("client %u got a corrupt name", client->index);
    uint32_t *next = &heard[(size_t)client->index * options.senders + sender];
    const Line *line = &lines[sender * TEXTS + *next];
    if (n < line->size || memcmp(p, line->bytes, line->size) != 0)
        fail("client %u got another text of client %u than must come (lost, doubled, reordered or corrupt)",
             client->index, sender);
    *next = *next + 1 == TEXTS ? 0 : *next + 1;
    count_copy(client);
    return line->size;
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
    if (p[0] & (options.deflate && opcode == 1 ? 0x30 : 0x70))
        fail("client %u got reserved bits that were not negotiated", client->index);
    if (p[1] & 0x80) fail("client %u got a masked frame", client->index);
    if (opcode == 1) {
        if (!(p[0] & 0x80)) fail("client %u got a fragmented message", client->index);
        if (!options.deflate && options.mode != BUN_CHAT && memcmp(p, header, n < header_size ? n : header_size) != 0)
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

/* A frame, or a part of a large one, in another form. Returns the bytes used, 0 means: need more. */
static size_t hear_other(Client *client, const unsigned char *p, size_t n) {
    size_t used = 0;
    if (options.mode == BUN_CHAT) used = hear_line(client, p, n);
    else if (options.deflate) used = hear_any(client, p, n);
    else if (options.size >= LARGE) used = hear_large(client, p, n);
    return used ? used : hear_uncommon(client, p, n);
}

/* Returns the bytes of whole frames; what is behind them is the beginning of a frame. */
static size_t consume(Client *client, const unsigned char *p, size_t n) {
    const unsigned char *start = p;
    size_t frame_size = header_size + options.size;
    int is_common = !options.deflate && options.mode != BUN_CHAT && options.size < LARGE;
    while (n > 0) {
        if (is_common && n >= frame_size && memcmp(p, header, header_size) == 0) {
            hear(client, p + header_size);
            p += frame_size;
            n -= frame_size;
            continue;
        }
        size_t used = hear_other(client, p, n);
        if (used == 0) break;
        p += used;
        n -= used;
    }
    return (size_t)(p - start);
}

static size_t carry_size(void) {
    return HEADER_MAX + 128 + (options.deflate ? wire_room() : options.size < LARGE ? options.size : NAME_SIZE);
}

static void keep_carry(Client *client, const unsigned char *p, size_t n) {
    if (n > 0 && !client->carry) client->carry = allocate(1, carry_size());
    if (n > 0) memcpy(client->carry, p, n);
    client->carried = n;
}

static void refill(Client *client) {
    client->missing += client->expected;
    missing += client->expected; /* as many as its own messages become: everybody hears as many as hear it */
    rounds++;
    send_round(client);
}

static void read_ready(Client *client) {
    size_t held = client->carried;
    if (held > 0) memcpy(input, client->carry, held);
    ssize_t n = read(client->fd, input + held, READ_SIZE);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n < 0) fail("client %u cannot read: %s", client->index, strerror(errno));
    if (n == 0) fail("client %u lost its connection", client->index);
    bytes += (uint64_t)n;
    if (options.rate > 0) read_at = now();
    size_t all = held + (size_t)n;
    size_t used = consume(client, input, all);
    keep_carry(client, input + used, all - used);
    if (refill_until > 0 && client->missing <= 0 && client->out_sent == client->out_size && now() < refill_until)
        refill(client);
}

static void (*on_readable)(Client *) = read_ready;

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
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(client);
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
        if (ready & (POLLIN | POLLHUP | POLLERR | POLLNVAL)) on_readable(&clients[i]);
    }
    return n;
}

#endif

/* The opening handshake, RFC 6455, 4.1 */

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

/* Where a client says who it is. */
static void write_target(const Client *client, char *to, size_t room) {
    size_t n = (size_t)snprintf(to, room, "/");
    uint32_t index = client->index;
    if (options.mode == BUN_CHAT) snprintf(to, room, "/?name=%s%u", names[index % LETTERS], index / LETTERS);
    if (options.mode != ROOMS) return;
    for (uint32_t i = 0; i < options.rooms_each && n < room; i++)
        n += (size_t)snprintf(to + n, room - n, "%s%u", i ? "," : "?rooms=", (client->index + i) % options.rooms);
}

/* Writes the request, and the answer that must come into `accept`. */
static void ask(Client *client, char accept[ACCEPT_ROOM]) {
    unsigned char nonce[16];
    uint64_t halves[2] = {next_random(), next_random()};
    char key[25], target[256], request[768];
    memcpy(nonce, halves, sizeof nonce);
    base64(nonce, sizeof nonce, key);
    accept_key(key, accept);
    write_target(client, target, sizeof target);
    const char *offer = options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "";
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
                     target, options.port, key, offer);
    if (write(client->fd, request, (size_t)n) != n) fail("client %u cannot write its handshake", client->index);
}

/* Reads once. Returns the size of the head when all of it is in `head`, else 0; `*size` bytes are there. */
static size_t read_head(Client *client, char *head, size_t *size) {
    ssize_t got = *size < HEAD_MAX ? read(client->fd, head + *size, HEAD_MAX - *size) : 0;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got <= 0) fail("client %u got no whole answer to its handshake", client->index);
    *size += (size_t)got;
    head[*size] = '\0';
    char *end = strstr(head, "\r\n\r\n");
    return end ? (size_t)(end - head) + 4 : 0;
}

static void check_head(const Client *client, const char *head, const char *accept) {
    char value[64];
    if (strncmp(head, "HTTP/1.1 101", 12) != 0) fail("client %u got %.12s to its handshake", client->index, head);
    if (!find_field(head, "Sec-WebSocket-Accept", value, sizeof value) || strcmp(value, accept) != 0)
        fail("client %u got a wrong Sec-WebSocket-Accept", client->index);
    if (find_field(head, "Sec-WebSocket-Extensions", value, sizeof value) != options.deflate)
        fail("client %u got %s", client->index,
             options.deflate ? "no compression" : "an extension that it did not offer");
    if (options.deflate && !strstr(head, "server_no_context_takeover"))
        fail("client %u got a server whose messages do not stand for themselves", client->index);
}

static void shake_hands(Client *client) {
    char accept[ACCEPT_ROOM], head[HEAD_MAX + 1];
    size_t size = 0, head_size = 0;
    ask(client, accept);
    while (!head_size) head_size = read_head(client, head, &size);
    check_head(client, head, accept);
    size_t behind = size - head_size; /* frames may come in one read with the head */
    memcpy(input, head + head_size, behind);
    size_t used = consume(client, input, behind);
    if (behind - used > carry_size())
        fail("client %u got more behind the handshake than can be carried", client->index);
    keep_carry(client, input + used, behind - used);
}

/* A blocking connect: on loopback it is the kernel that answers, not the server. */
static void connect_client(Client *client) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (client->fd < 0) fail("client %u has no socket: %s", client->index, strerror(errno));
#ifdef __linux__
    if (options.mode == CONNECT) {
        /* Closed connections hold their ports for a minute (TIME_WAIT): so many addresses of loopback have enough. */
        static uint32_t turn;
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + turn++ % 250);
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(client->fd, (struct sockaddr *)&from, sizeof from) < 0) fail("bind: %s", strerror(errno));
    }
#endif
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("client %u cannot connect: %s", client->index, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void stay_nonblocking(Client *client) {
    if (fcntl(client->fd, F_SETFL, O_NONBLOCK) < 0) fail("fcntl: %s", strerror(errno));
    watch(client);
}

static void open_client(Client *client) {
    connect_client(client);
    shake_hands(client);
    stay_nonblocking(client);
}

/* Rounds */

/*
 * It never sleeps while it waits: whoever writes to a process that sleeps pays for waking it up. That was 70 to 700 times
 * in 1,000 echoes, by chance, and up to a third of what they cost the server.
 */
static void wait_for_copies(void) {
    double looked = now();
    if (handle_ready(0) != 0) return;
    double then = now();
    spun += then - looked;
    if (then < deadline) return;
    for (uint32_t i = 0; i < options.clients; i++)
        if (clients[i].missing > 0)
            fail("out of time: client %u misses %lld of %u copies, all clients together %llu", i,
                 (long long)clients[i].missing, clients[i].expected, (unsigned long long)missing);
    fail("out of time: %llu copies are missing", (unsigned long long)missing);
}

static void play_round(void) {
    for (uint32_t i = 0; i < options.clients; i++) {
        clients[i].missing = clients[i].expected;
        missing += clients[i].expected;
    }
    for (uint32_t i = 0; i < options.senders; i++) send_round(&clients[i]);
    while (missing > 0) wait_for_copies();
    rounds++;
}

/* Everybody talks: each client goes on when it has heard enough, alone. */
static void play_freely(double seconds) {
    refill_until = now() + seconds;
    for (uint32_t i = 0; i < options.senders; i++) clients[i].missing = 0;
    for (uint32_t i = 0; i < options.senders; i++) refill(&clients[i]);
    while (missing > 0) wait_for_copies();
    rounds = (rounds + options.senders - 1) / options.senders;
    refill_until = 0;
}

/* --rate: nobody waits for anybody. It spins between what is due, since a sleep would be late. */
static void play_stream(double seconds) {
    uint64_t copies = 0; /* of one message */
    for (uint32_t i = 0; i < options.clients; i++) copies += (uint64_t)hears(i, 0);
    uint64_t all = (uint64_t)(seconds * options.rate / options.senders + 1) * options.senders;
    stream_sequence = clients[0].sequence;
    stream_began = now();
    for (uint64_t k = 0; k < all || missing > 0;) {
        for (int turn = 0; turn < 16 && k < all; turn++, k++) {
            double late = now() - (stream_began + (double)k / options.rate);
            if (late < 0) break;
            note(lags, late);
            missing += copies;
            send_one(&clients[k % options.senders]);
        }
        wait_for_copies();
    }
    rounds++;
}

/* Connections: what a slot knows is in its Client. `carry` holds the head that comes, `out` what it must say. */

static double storm_until;

static void start_connection(Client *client) {
    connect_client(client);
    client->carried = 0;
    client->missing = 1;
    missing++;
    ask(client, (char *)client->out);
    stay_nonblocking(client);
}

static const unsigned char normal_closure[] = {1000 >> 8, 1000 & 255};

static void go_on_with_connection(Client *client) {
    char *head = (char *)client->carry;
    if (client->missing) {
        if (!read_head(client, head, &client->carried)) return;
        check_head(client, head, (char *)client->out);
        sent++;
        client->missing = 0;
        send_control(client, 0x88, normal_closure, sizeof normal_closure);
        return;
    }
    unsigned char answer[256];
    ssize_t n = read(client->fd, answer, sizeof answer);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) fail("client %u cannot read: %s", client->index, strerror(errno));
    /* RFC 6455, 5.5.1: an endpoint that receives a Close frame "MUST send a Close frame in response". */
    if (n == 0 || answer[0] != 0x88) fail("client %u got no answer to its Close frame", client->index);
    bytes += client->carried + (size_t)n;
    close(client->fd);
    missing--;
    received++;
    if (now() < storm_until) start_connection(client);
}

static void play_connections(double seconds) {
    storm_until = now() + seconds;
    for (uint32_t i = 0; i < options.clients; i++) start_connection(&clients[i]);
    while (missing > 0) wait_for_copies();
    rounds++;
}

/* One part of the run: all that it starts has come to its end when it returns. */
static void play(double seconds) {
    if (options.mode == CONNECT) play_connections(seconds);
    else if (options.rate > 0) play_stream(seconds);
    else if (options.mode != BUN_CHAT && options.senders == options.clients) play_freely(seconds);
    else for (double end = now() + seconds; play_round(), now() < end;) {}
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

static void report(double seconds, double cpu, uint64_t counted, uint64_t counted_compressed) {
    printf("{\"clients\": %u, \"rounds\": %llu, \"sent\": %llu, \"received\": %llu, \"compressed\": %llu, "
           "\"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"spun_seconds\": %.6f",
           options.clients, (unsigned long long)rounds, (unsigned long long)sent, (unsigned long long)counted,
           (unsigned long long)counted_compressed, (unsigned long long)bytes, seconds, cpu, spun);
    if (options.rate > 0) {
        print_buckets("latency", latencies);
        print_buckets("lag", lags);
    }
    printf(", \"errors\": 0}\n");
}

static void play_counted(void) {
    play(options.warmup);
    mark("START");
    rounds = sent = received = compressed = bytes = 0;
    spun = 0;
    memset(latencies, 0, sizeof latencies);
    memset(lags, 0, sizeof lags);
    double started = now(), cpu_started = cpu_seconds();
    play(options.seconds);
    double seconds = now() - started, cpu = cpu_seconds() - cpu_started;
    uint64_t counted = received, counted_compressed = compressed;
    mark("END");
    if (options.mode != CONNECT) handle_ready(50); /* nothing more may come; if it does, it is one copy too many */
    report(seconds, cpu, counted, counted_compressed);
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
    report(now() - started, cpu_seconds() - cpu_started, 0, 0);
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
        {"warmup", 1, 0, 'u'},   {"seconds", 1, 0, 't'}, {"rate", 1, 0, 'r'},
        {"rooms", 1, 0, 'R'},    {"rooms-each", 1, 0, 'E'}, {"timeout", 1, 0, 'o'},
        {"text", 1, 0, 'x'},     {"publish-to-self", 0, 0, 'P'}, {"deflate", 0, 0, 'D'},
        {"unchecked", 0, 0, 'U'}, {"marks", 0, 0, 'M'},  {0, 0, 0, 0},
    };
    static const char *const modes[] = {"chat", "rooms", "bun-chat", "echo", "connect", "idle"};
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
        case 'r': options.rate = number(name, optarg, 0.001, 1e8); break;
        case 'R': options.rooms = (uint32_t)number(name, optarg, 1, 1000000); break;
        case 'E': options.rooms_each = (uint32_t)number(name, optarg, 1, 32); break;
        case 'U': options.unchecked = 1; break;
        case 'o': options.timeout = number(name, optarg, 1, 86400); break;
        case 'P': options.publish_to_self = 1; break;
        case 'M': options.marks = 1; break;
        case 'x': options.text = optarg; break;
        case 'D': options.deflate = 1; break;
        case 'm':
            for (int i = 0; i <= IDLE; i++)
                if (strcmp(optarg, modes[i]) == 0) has_mode = 1, options.mode = (Mode)i;
            if (!has_mode) fail("--mode must be one of those at the head of load.c");
            break;
        default: fail("unknown option; the head of load.c lists them");
        }
    }
    if (!options.port || !has_mode || optind < argc) fail("needs --port and --mode, and nothing but options");
    if (!options.senders) options.senders = options.clients;
    if (options.mode == IDLE || options.mode == CONNECT) options.senders = 0;
    if (options.mode == BUN_CHAT && options.senders != options.clients) fail("in bun-chat everybody talks");
    if (options.mode == ROOMS && options.rooms_each > options.rooms) fail("--rooms-each must not exceed --rooms");
    if (options.mode == ROOMS && options.senders != options.clients) fail("in rooms everybody talks");
    if (options.mode == ROOMS && options.clients % options.rooms) fail("--rooms must divide --clients");
    if (options.rate > 0 && options.mode != CHAT && options.mode != ECHO) fail("--rate is for chat and echo");
    if (options.rate > 0 && options.mode == CHAT && options.senders != options.clients && !options.publish_to_self)
        fail("--rate is for a chat in which each message has as many listeners");
    if (options.senders > options.clients) fail("--senders must not exceed --clients");
    if (options.deflate && (options.mode != CHAT || options.senders != 1))
        fail("--deflate is for a chat with --senders 1");
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

/* Copies that one round owes to this client. */
static uint32_t copies_expected_by(uint32_t index) {
    uint32_t copies = 0;
    for (uint32_t sender = 0; sender < options.senders; sender++)
        copies += (uint32_t)hears(index, sender) * options.messages;
    return copies;
}

/* In echo a listener hears one sender, itself. */
static size_t heard_size(void) {
    return options.mode == ECHO ? options.senders : (size_t)options.clients * options.senders;
}

static void say_goodbye(void) {
    for (uint32_t i = 0; i < options.clients; i++) {
        send_control(&clients[i], 0x88, normal_closure, sizeof normal_closure);
        close(clients[i].fd);
    }
}

/*
 * The clients rest once before the first round: a server may run what makes a socket a listener a moment after it has
 * shaken hands, and the earliest message would miss it.
 */
static void settle(void) {
    struct timespec pause = {.tv_nsec = 200 * 1000 * 1000};
    nanosleep(&pause, NULL);
}

static void play_with_clients(void) {
    uint64_t copies = 0;
    for (uint32_t i = 0; i < options.clients; i++) {
        clients[i].expected = copies_expected_by(i);
        copies += clients[i].expected;
        if (i < options.senders) clients[i].out = allocate(1, out_room());
        open_client(&clients[i]);
    }
    if (options.mode != IDLE && copies == 0) fail("nobody would hear anything");
    printf("OPEN %u\n", options.clients);
    fflush(stdout);
    if (options.mode == IDLE) {
        hold();
    } else {
        settle();
        play_counted();
    }
    fflush(stdout);
    say_goodbye();
}

static void play_without_clients(void) {
    for (uint32_t i = 0; i < options.clients; i++) {
        clients[i].carry = allocate(1, HEAD_MAX + 1);
        clients[i].out = allocate(1, ACCEPT_ROOM);
    }
    on_readable = go_on_with_connection;
    printf("OPEN 0\n");
    fflush(stdout);
    play_counted();
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
    heard = allocate(heard_size(), sizeof *heard);
    if (options.mode == BUN_CHAT) make_lines();
    make_watches();
    for (uint32_t i = 0; i < options.clients; i++) clients[i].index = i;
    if (options.mode == CONNECT) play_without_clients();
    else play_with_clients();
    return 0;
}
