/*
 * transfer: one client that downloads or uploads a large body over HTTP, again and again on one connection.
 *
 * Rule: every byte is counted, and every SAMPLEth piece of a download is compared with what it must be: byte i of the
 * body is (i mod 65536) mod 251. Of an upload the server must answer how many bytes it got.
 *
 *   transfer --port P --mode download|upload --size BYTES [--warmup SECONDS] [--seconds SECONDS] [--timeout SECONDS]
 *
 * download: GET /file; upload: POST /upload. At least one body each for warm-up and count. Marks and the last line are
 * those of load.c, with `received` (or, for an upload, `sent`) in bytes and `rounds` in bodies. 127.0.0.1 only.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
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

enum { BLOCK = 65536, PIECE = 256 * 1024, SAMPLE = 16, HEAD_MAX = 16 * 1024 };

static int port, is_upload, fd;
static uint64_t size;
static double warmup = 1, seconds = 3;
static uint64_t bodies, sent, received;
static unsigned char pattern[BLOCK + PIECE], input[PIECE];

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
    va_list arguments;
    va_start(arguments, format);
    printf("{\"errors\": 1, \"error\": \"");
    vprintf(format, arguments);
    printf("\"}\n");
    va_end(arguments);
    fflush(stdout);
    _exit(1);
}

static void out_of_time(int signal_number) {
    static const char words[] = "{\"errors\": 1, \"error\": \"out of time\"}\n";
    (void)signal_number;
    _exit(write(STDOUT_FILENO, words, sizeof words - 1) < 0 ? 2 : 1);
}

static void write_all(const void *from, size_t n) {
    while (n > 0) {
        ssize_t done = write(fd, from, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) fail("cannot write: %s", strerror(errno));
        from = (const char *)from + done;
        n -= (size_t)done;
    }
}

/* Reads the head of an answer. Returns the bytes of body behind it, now in `input`; `*length` is what is promised. */
static size_t read_head(uint64_t *length) {
    size_t n = 0;
    char *end = NULL, *head = (char *)input, *field;
    while (!end) {
        ssize_t got = n < HEAD_MAX ? read(fd, input + n, HEAD_MAX - n) : 0;
        if (got <= 0) fail("got no whole answer");
        n += (size_t)got;
        head[n] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    if (strncmp(head, "HTTP/1.1 200", 12) != 0) fail("got %.12s", head);
    if (!(field = strcasestr(head, "\r\nContent-Length:"))) fail("got no Content-Length");
    *length = strtoull(field + 17, NULL, 10);
    size_t head_size = (size_t)(end - head) + 4;
    memmove(input, input + head_size, n - head_size);
    return n - head_size;
}

static void check(uint64_t at, size_t n) {
    if (memcmp(input, pattern + at % BLOCK, n) != 0)
        fail("a wrong byte between %llu and %llu", (unsigned long long)at, (unsigned long long)(at + n));
}

static void download(void) {
    uint64_t length, at;
    dprintf(fd, "GET /file HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", port);
    at = read_head(&length);
    if (length != size) fail("got a body of %llu bytes", (unsigned long long)length);
    check(0, (size_t)at);
    for (unsigned count = 0; at < size; count++) {
        ssize_t n = read(fd, input, size - at < PIECE ? (size_t)(size - at) : PIECE);
        if (n <= 0) fail("the body ended after %llu bytes", (unsigned long long)at);
        if (count % SAMPLE == 0) check(at, (size_t)n);
        at += (uint64_t)n;
    }
    received += size;
}

static void upload(void) {
    uint64_t length;
    dprintf(fd, "POST /upload HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %llu\r\n\r\n", port,
            (unsigned long long)size);
    for (uint64_t at = 0; at < size; at += PIECE)
        write_all(pattern + at % BLOCK, size - at < PIECE ? (size_t)(size - at) : PIECE);
    size_t n = read_head(&length);
    while (n < length) {
        ssize_t got = length < HEAD_MAX ? read(fd, input + n, HEAD_MAX - n) : 0;
        if (got <= 0) fail("got no whole answer");
        n += (size_t)got;
    }
    input[n] = '\0';
    if (strtoull((char *)input, NULL, 10) != size) fail("the server says that it got %.20s bytes", (char *)input);
    sent += size;
}

static void play(double long_enough) {
    double end = now() + long_enough;
    do {
        if (is_upload) upload();
        else download();
        bodies++;
    } while (now() < end);
}

static void mark(const char *word) {
    char c;
    printf("%s\n", word);
    fflush(stdout);
    do {
        if (read(STDIN_FILENO, &c, 1) != 1) fail("stdin closed at %s", word);
    } while (c != '\n');
}

int main(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'},    {"mode", 1, 0, 'm'},    {"size", 1, 0, 's'},  {"warmup", 1, 0, 'u'},
        {"seconds", 1, 0, 't'}, {"timeout", 1, 0, 'o'}, {"marks", 0, 0, 'M'}, {0, 0, 0, 0},
    };
    int option;
    unsigned timeout = 60;
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 's': size = strtoull(optarg, NULL, 10); break;
        case 'u': warmup = atof(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'o': timeout = (unsigned)atoi(optarg); break;
        case 'm': is_upload = strcmp(optarg, "upload") == 0; break;
        case 'M': break;
        default: fail("unknown option; the head of transfer.c lists them");
        }
    }
    if (!port || !size) fail("needs --port and --size");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGALRM, out_of_time);
    alarm(timeout + 5);
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (unsigned char)(i % BLOCK % 251);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("cannot connect: %s", strerror(errno));
    printf("OPEN 1\n");
    fflush(stdout);
    play(warmup);
    mark("START");
    bodies = sent = received = 0;
    double started = now(), cpu_started = cpu_seconds();
    play(seconds);
    double passed = now() - started, cpu = cpu_seconds() - cpu_started;
    mark("END");
    printf("{\"clients\": 1, \"rounds\": %llu, \"sent\": %llu, \"received\": %llu, \"compressed\": 0, \"bytes\": %llu, "
           "\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"errors\": 0}\n",
           (unsigned long long)bodies, (unsigned long long)sent, (unsigned long long)received,
           (unsigned long long)(sent + received), passed, cpu);
    return 0;
}
