// A server that costs next to nothing: one epoll loop that answers every HTTP/1.1 request with
// the same 1 KiB tools/call result, so that a benchmark measures what stands before it. The tool's
// name chooses another answer: "events" the same as one event of a stream, "answerN" a text of N
// bytes, "paged" an array of 500 items, "failing" a result that says it is an error. It introduces
// itself as a server of the handshake era, and lists 1,000 tools.
// Usage: upstream PORT
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 65536, BUFFER = 16384, LARGEST = 4 << 20, SIZES = 16 };

struct answer {
  char *bytes;
  size_t length, text;
};

struct connection {
  size_t used;  // bytes in the buffer
  size_t skip;  // bytes of a large body still to come
  const struct answer *saying;  // an answer that the other side has not taken whole
  size_t said;
  char buffer[BUFFER];
};

static struct connection *connections[CONNECTIONS];
static struct answer plain, events, paged, failing, hello, list, large[SIZES];
static int polled;

static struct answer make(const char *head, const char *text, size_t length, int error, int stream) {
  char *body = malloc(length + 512), *bytes = malloc(length + 1024);
  int size = sprintf(body,
                     "%s{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"content\":[{\"type\":\"text\",\"text\":"
                     "\"%.*s\"}],\"isError\":%s,\"resultType\":\"complete\"}}%s",
                     stream ? "event: message\ndata: " : "", (int)length, text, error ? "true" : "false",
                     stream ? "\n\n" : "");
  int whole = stream ? sprintf(bytes, "HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
                               head, size, body)
                     : sprintf(bytes, "HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", head, size, body);
  free(body);
  return (struct answer){bytes, (size_t)whole, length};
}

static struct answer whole(const char *result) {
  char *bytes = malloc(strlen(result) + 256);
  int length = sprintf(bytes,
                       "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n"
                       "{\"jsonrpc\":\"2.0\",\"id\":1,%s}",
                       strlen(result) + 25, result);
  return (struct answer){bytes, (size_t)length, 0};
}

static void make_answers(void) {
  const char *json = "Content-Type: application/json\r\n";
  char *text = malloc(LARGEST), *end = text;
  memset(text, 'x', LARGEST);
  plain = make(json, text, 900, 0, 0);
  failing = make(json, text, 100, 1, 0);
  events = make("Content-Type: text/event-stream\r\n", text, 900, 0, 1);
  end += sprintf(end, "[");
  for (int i = 0; i < 500; i++) end += sprintf(end, "%s{\\\"station\\\":%d,\\\"name\\\":\\\"number %d\\\"}", i ? "," : "", i, i);
  end += sprintf(end, "]");
  paged = make(json, text, (size_t)(end - text), 0, 0);
  hello = whole("\"result\":{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{}},"
                "\"serverInfo\":{\"name\":\"bench\",\"version\":\"1\"}}");
  end = text + sprintf(text, "\"result\":{\"tools\":[");
  for (int i = 0; i < 1000; i++) end += sprintf(end, "%s{\"name\":\"t%05d\",\"inputSchema\":{}}", i ? "," : "", i);
  sprintf(end, "]}");
  list = whole(text);
  free(text);
}

static struct answer *chosen(const char *body, size_t length) {
  if (memmem(body, length, "\"tools/list\"", 12)) return &list;
  if (memmem(body, length, "\"initialize\"", 12)) return &hello;
  const char *name = memmem(body, length, "\"name\":\"", 8);
  if (!name) return &plain;
  name += 8;
  if (!strncmp(name, "events\"", 7)) return &events;
  if (!strncmp(name, "paged\"", 6)) return &paged;
  if (!strncmp(name, "failing\"", 8)) return &failing;
  if (strncmp(name, "answer", 6)) return &plain;
  size_t wanted = strtoul(name + 6, NULL, 10);
  if (wanted > LARGEST) wanted = LARGEST;
  struct answer *found = large;
  while (found->bytes && found->text != wanted && found < large + SIZES - 1) found++;
  if (found->text != wanted || !found->bytes) {
    char *text = malloc(wanted + 1);
    memset(text, 'x', wanted);
    *found = make("Content-Type: application/json\r\n", text, wanted, 0, 0);
    free(text);
  }
  return found;
}

// Sends an answer, or what is left of one; returns 0 when the connection must be closed.
static int say(int fd, struct connection *c, const struct answer *answer) {
  while (c->said < answer->length) {
    ssize_t count = write(fd, answer->bytes + c->said, answer->length - c->said);
    if (count > 0) {
      c->said += (size_t)count;
    } else if (errno == EAGAIN) {
      struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
      c->saying = answer;
      return !epoll_ctl(polled, EPOLL_CTL_MOD, fd, &event);
    } else {
      return 0;
    }
  }
  c->said = 0;
  if (c->saying) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    c->saying = NULL;
    return !epoll_ctl(polled, EPOLL_CTL_MOD, fd, &event);
  }
  return 1;
}

// Answers every whole request in the buffer; returns 0 when the connection must be closed.
static int serve(int fd, struct connection *c) {
  if (c->saying) return say(fd, c, c->saying);
  ssize_t got = read(fd, c->buffer + c->used, BUFFER - c->used - 1);
  if (got <= 0) return got < 0 && errno == EAGAIN;
  if (c->skip) {
    if ((size_t)got < c->skip) return c->skip -= (size_t)got, 1;
    size_t rest = (size_t)got - c->skip;
    memmove(c->buffer, c->buffer + c->skip, rest);
    c->skip = 0, c->used = rest;
    if (!say(fd, c, &plain)) return 0;
    if (!rest) return 1;
  } else {
    c->used += (size_t)got;
  }
  for (;;) {
    c->buffer[c->used] = 0;
    char *end = strstr(c->buffer, "\r\n\r\n");
    if (!end) return c->used < BUFFER - 1;
    size_t head = (size_t)(end - c->buffer) + 4, body = 0;
    char *field = strcasestr(c->buffer, "\r\ncontent-length:");
    if (field && field < end) body = strtoul(field + 17, NULL, 10);
    if (c->used < head + body) {
      if (head + body < BUFFER) return 1;
      c->skip = head + body - c->used, c->used = 0;
      return 1;
    }
    if (!say(fd, c, chosen(c->buffer + head, body))) return 0;
    memmove(c->buffer, c->buffer + head + body, c->used - head - body);
    c->used -= head + body;
    if (!c->used) return 1;
  }
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "usage: upstream PORT\n"), 2;
  signal(SIGPIPE, SIG_IGN);
  make_answers();
  int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  polled = epoll_create1(0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
    return perror("upstream"), 1;
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[256];
  epoll_ctl(polled, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(polled, ready, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) {
        int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (client < 0 || client >= CONNECTIONS) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connections[client] = calloc(1, sizeof(struct connection));
        event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
        epoll_ctl(polled, EPOLL_CTL_ADD, client, &event);
      } else if (!serve(fd, connections[fd])) {
        free(connections[fd]);
        close(fd);
      }
    }
  }
}
