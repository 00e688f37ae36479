// A server that costs next to nothing: one epoll loop that answers every HTTP/1.1 request with
// the same 1 KiB tools/call result, so that a benchmark measures what stands before it. A call
// of the tool "events" is answered with the same as one event of a stream.
// Usage: upstream PORT
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 65536, BUFFER = 16384 };

struct connection {
  size_t used;
  char buffer[BUFFER];
};

static struct connection *connections[CONNECTIONS];
static char answer[2048], events[2048];
static size_t answer_length, events_length;

static void make_answer(void) {
  char body[1200], padding[901];
  memset(padding, 'x', 900);
  padding[900] = 0;
  int length = snprintf(body, sizeof body,
                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[{\"type\":\"text\","
                        "\"text\":\"%s\"}],\"isError\":false,\"resultType\":\"complete\"}}",
                        padding);
  answer_length = (size_t)snprintf(answer, sizeof answer,
                                   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                   "Content-Length: %d\r\n\r\n%s",
                                   length, body);
  events_length = (size_t)snprintf(events, sizeof events,
                                   "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n%x\r\nevent: message\ndata: %s\n\n"
                                   "\r\n0\r\n\r\n",
                                   length + 23, body);
}

// Answers every whole request in the buffer; returns 0 when the connection must be closed.
static int serve(int fd, struct connection *c) {
  ssize_t got = read(fd, c->buffer + c->used, BUFFER - c->used - 1);
  if (got <= 0) return got < 0 && errno == EAGAIN;
  c->used += (size_t)got;
  for (;;) {
    c->buffer[c->used] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return c->used < BUFFER - 1;
    size_t head = (size_t)(end - c->buffer) + 4, body = 0;
    char *field = strcasestr(c->buffer, "\r\ncontent-length:");
    if (field && field < end) body = strtoul(field + 17, NULL, 10);
    if (c->used < head + body) return head + body < BUFFER;
    int streams = memmem(c->buffer + head, body, "\"events\"", 8) != NULL;
    const char *said = streams ? events : answer;
    size_t length = streams ? events_length : answer_length;
    if (write(fd, said, length) != (ssize_t)length) return 0;
    memmove(c->buffer, c->buffer + head + body, c->used - head - body);
    c->used -= head + body;
    if (!c->used) return 1;
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "usage: upstream PORT\n"), 2;
  make_answer();
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
    return perror("upstream"), 1;
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[256];
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(poll, ready, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (client < 0 || client >= CONNECTIONS) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[client] = calloc(1, sizeof(struct connection));
        event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
        epoll_ctl(poll, EPOLL_CTL_ADD, client, &event);
      } else if (!serve(fd, connections[fd])) {
        free(connections[fd]);
        close(fd);
      }
    }
  }
}
