/*
 * floor: what the kernel alone costs. A server that understands nothing: it counts the bytes that come, and for each
 * frame's worth of them writes ready-made frames, one write per client and turn.
 *
 * Rule: whatever a real server does for a message (parse, unmask, look up, encode) is left out, so no server that does
 * its work in this many system calls can be below it. One that makes fewer can.
 *
 *   floor chat|echo        prints LISTENING <port>; its frames are as large as the first that comes. Linux only.
 *
 * The load must be told not to believe it: --unchecked.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "accept.h"

enum { READ_SIZE = 256 * 1024, READY_SIZE = 256 * 1024, HEAD_MAX = 4096, EVENTS = 256 };

typedef struct {
    int fd, is_open, is_watched_writable;
    size_t come;  /* bytes of a frame that is not whole yet */
    size_t own;   /* frames that came in this turn */
    size_t owed;  /* bytes to be written */
    size_t phase; /* where in a frame the next write begins */
    char head[HEAD_MAX + 1];
    size_t head_size;
} Client;

static Client **clients;
static size_t clients_count, clients_room;
static int ready_fd, is_chat;
static size_t frame_in, frame_out; /* bytes; 0 until the first has come */
static unsigned char *ready, input[READ_SIZE];
static size_t ready_size;

__attribute__((noreturn)) static void fail(const char *words) {
    perror(words);
    exit(1);
}

/* The first frame tells how large all are. Its header is whole: the load writes whole rounds. */
static void learn(const unsigned char *p, size_t n) {
    size_t size = p[1] & 0x7F, width = size < 126 ? 0 : size == 126 ? 2 : 8;
    if (n < 2 + width) fail("the first frame came in pieces");
    if (width) size = 0;
    for (size_t i = 0; i < width; i++) size = size << 8 | p[2 + i];
    frame_in = 2 + width + 4 + size;
    frame_out = 2 + width + size;
    size_t count = READY_SIZE / frame_out + 2;
    ready_size = count * frame_out;
    ready = malloc(ready_size);
    if (!ready) fail("malloc");
    memset(ready, 'a', ready_size);
    for (size_t i = 0; i < count; i++) {
        ready[i * frame_out] = 0x81;
        memcpy(ready + i * frame_out + 1, p + 1, 1 + width);
        ready[i * frame_out + 1] &= 0x7F;
    }
}

static void watch_writable(Client *client, int on) {
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = client};
    if (client->is_watched_writable == on) return;
    client->is_watched_writable = on;
    if (epoll_ctl(ready_fd, EPOLL_CTL_MOD, client->fd, &event) < 0) fail("epoll_ctl");
}

static void drop(Client *client) {
    close(client->fd);
    client->is_open = 0;
    client->owed = 0;
}

static void write_owed(Client *client) {
    while (client->owed > 0) {
        size_t size = ready_size - client->phase < client->owed ? ready_size - client->phase : client->owed;
        ssize_t n = write(client->fd, ready + client->phase, size);
        if (n < 0 && errno != EAGAIN) {
            drop(client);
            return;
        }
        if (n < 0) {
            watch_writable(client, 1);
            return;
        }
        client->owed -= (size_t)n;
        client->phase = (client->phase + (size_t)n) % frame_out;
    }
    watch_writable(client, 0);
}

static void shake_hands(Client *client) {
    ssize_t n = read(client->fd, client->head + client->head_size, HEAD_MAX - client->head_size);
    if (n <= 0) {
        drop(client);
        return;
    }
    client->head_size += (size_t)n;
    client->head[client->head_size] = '\0';
    char *key = strcasestr(client->head, "\r\nSec-WebSocket-Key: "), accept[ACCEPT_ROOM], answer[256];
    if (!strstr(client->head, "\r\n\r\n") || !key) return;
    accept_key(key + 21, accept);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
    if (write(client->fd, answer, (size_t)size) != size) fail("write");
    client->is_open = 1;
}

/* Returns the frames that this completes. */
static size_t take(Client *client) {
    ssize_t n = read(client->fd, input, READ_SIZE);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) {
        drop(client);
        return 0;
    }
    if (!frame_in) learn(input, (size_t)n);
    client->come += (size_t)n;
    size_t frames = client->come / frame_in;
    client->come %= frame_in;
    client->own += frames;
    return frames;
}

static void accept_client(int listener) {
    int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (clients_count == clients_room) {
        clients_room = clients_room ? 2 * clients_room : 64;
        clients = realloc(clients, clients_room * sizeof *clients);
        if (!clients) fail("realloc");
    }
    Client *client = clients[clients_count++] = calloc(1, sizeof *client);
    if (!client) fail("calloc");
    client->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(ready_fd, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static int listen_on_loopback(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 4096) < 0) fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) fail("getsockname");
    printf("LISTENING %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void turn(int listener) {
    struct epoll_event events[EVENTS];
    size_t come = 0;
    int n = epoll_wait(ready_fd, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
        Client *client = events[i].data.ptr;
        if (!client) {
            accept_client(listener);
            continue;
        }
        if (events[i].events & EPOLLOUT) write_owed(client);
        if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
        if (client->is_open) come += take(client);
        else shake_hands(client);
    }
    if (!come) return;
    for (size_t i = 0; i < clients_count; i++) {
        Client *client = clients[i];
        size_t frames = is_chat ? come - client->own : client->own;
        client->own = 0;
        if (!frames || !client->is_open) continue;
        client->owed += frames * frame_out;
        if (!client->is_watched_writable) write_owed(client);
    }
}

int main(int argc, char **argv) {
    if (argc != 2 || (strcmp(argv[1], "chat") != 0 && strcmp(argv[1], "echo") != 0)) {
        fprintf(stderr, "usage: floor chat|echo\n");
        return 2;
    }
    is_chat = strcmp(argv[1], "chat") == 0;
    signal(SIGPIPE, SIG_IGN);
    if ((ready_fd = epoll_create1(0)) < 0) fail("epoll_create1");
    int listener = listen_on_loopback();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(ready_fd, EPOLL_CTL_ADD, listener, &event) < 0) fail("epoll_ctl");
    for (;;) turn(listener); /* until its parent ends it, by its pid */
}
