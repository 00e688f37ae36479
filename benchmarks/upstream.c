// A server that costs next to nothing: one epoll loop that answers every HTTP/1.1 request with
// the same 1 KiB tools/call result under the request's own id, so that a benchmark measures what
// stands before it. The tool's name chooses another answer: "events" the same as one event of a
// stream, "answerN" a text of N bytes, "paged" an array of 500 items, "failing" a result that says
// it is an error. What bears no id is accepted without a result; a GET of a target that ends with
// "?stream" opens a stream on which nothing comes. It introduces itself as a server of the
// handshake era, and lists 1,000 tools. With "sessions" `initialize` begins one, and every answer in
// one names it, as those of the official SDKs do; it knows whatever id it is asked with.
// Usage: upstream PORT [sessions]
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CONNECTIONS = 65536, BUFFER = 16384, LARGEST = 4 << 20, SIZES = 16, LONGEST_ID = 64, OPENING = 512 };
static const char session_line[] = "Mcp-Session-Id: ";

// What is the same in every answer of a kind: the head's lines, and what follows the id.
struct answer {
  const char *lines;
  char *tail;
  size_t length, text;
  int stream;
};

struct connection {
  size_t used;  // bytes in the buffer
  size_t skip;  // bytes of a large body still to come
  const struct answer *saying;  // the answer that is opened and not yet taken whole
  int waiting;  // for room on the other side
  size_t opened, said;  // bytes up to and with the id; bytes of the whole that were taken
  char opening[OPENING];
  char buffer[BUFFER];
};

static struct connection *connections[CONNECTIONS];
static struct answer plain, events, paged, failing, hello, list, large[SIZES];
static const struct answer accepted = {0};
static int polled, sessions;
static unsigned long begun;

static struct answer make(const char *text, size_t length, int error, int stream) {
  char *tail = malloc(length + 512);
  int size = sprintf(tail, ",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"%.*s\"}],\"isError\":%s,"
                     "\"resultType\":\"complete\"}}%s",
                     (int)length, text, error ? "true" : "false", stream ? "\n\n\r\n0\r\n\r\n" : "");
  const char *lines = stream ? "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
                             : "Content-Type: application/json\r\n";
  return (struct answer){lines, tail, (size_t)size, length, stream};
}

static struct answer whole(const char *result) {
  char *tail = malloc(strlen(result) + 16);
  int size = sprintf(tail, ",%s}", result);
  return (struct answer){"Content-Type: application/json\r\n", tail, (size_t)size, 0, 0};
}

static void make_answers(void) {
  char *text = malloc(LARGEST), *end = text;
  memset(text, 'x', LARGEST);
  plain = make(text, 900, 0, 0);
  failing = make(text, 100, 1, 0);
  events = make(text, 900, 0, 1);
  end += sprintf(end, "[");
  for (int i = 0; i < 500; i++) end += sprintf(end, "%s{\\\"station\\\":%d,\\\"name\\\":\\\"number %d\\\"}", i ? "," : "", i, i);
  end += sprintf(end, "]");
  paged = make(text, (size_t)(end - text), 0, 0);
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
  while (found->tail && found->text != wanted && found < large + SIZES - 1) found++;
  if (found->text != wanted || !found->tail) {
    char *text = malloc(wanted + 1);
    memset(text, 'x', wanted);
    *found = make(text, wanted, 0, 0);
    free(text);
  }
  return found;
}

// Writes the line that names the session of an answer: a new one's, or that of the request's head.
static void name_session(char *line, const char *head, const char *end, const struct answer *answer) {
  if (answer == &hello) {
    sprintf(line, "%s%032lx\r\n", session_line, ++begun);
    return;
  }
  const char *named = strcasestr(head, session_line);
  if (!named || named >= end) return;
  named += sizeof session_line - 1;
  size_t size = strcspn(named, "\r");
  if (size <= LONGEST_ID) sprintf(line, "%s%.*s\r\n", session_line, (int)size, named);
}

// Writes an answer's head and beginning: all that differs from request to request.
static void open_answer(struct connection *c, const struct answer *answer, const char *session, const char *id,
                        size_t length) {
  static const char event[] = "event: message\ndata: ", begin[] = "{\"jsonrpc\":\"2.0\",\"id\":";
  size_t size = sizeof begin - 1 + length + answer->length;
  c->saying = answer;
  if (!id) {
    c->opened = (size_t)sprintf(c->opening, "HTTP/1.1 202 Accepted\r\n%sContent-Length: 0\r\n\r\n", session);
  } else if (answer->stream) {
    size += sizeof event - 1 - 7;  // the chunk's last line and the last chunk are no part of it
    c->opened = (size_t)sprintf(c->opening, "HTTP/1.1 200 OK\r\n%s%s\r\n%zx\r\n%s%s%.*s", session, answer->lines,
                                size, event, begin, (int)length, id);
  } else {
    c->opened = (size_t)sprintf(c->opening, "HTTP/1.1 200 OK\r\n%s%sContent-Length: %zu\r\n\r\n%s%.*s", session,
                                answer->lines, size, begin, (int)length, id);
  }
}

// Chooses the answer to a body, of which the beginning is there, and opens it.
static void answer_to(struct connection *c, const char *body, size_t length) {
  const char *id = memmem(body, length, "\"id\":", 5);
  size_t size = 0;
  if (id) {
    id += 5;
    size = *id == '"' ? 2 + strcspn(id + 1, "\"") : strcspn(id, ",}");
    if (size > LONGEST_ID) id = NULL;
  }
  const struct answer *answer = id ? chosen(body, length) : &accepted;
  char session[sizeof session_line + LONGEST_ID + 2] = "";
  if (sessions) name_session(session, c->buffer, body, answer);
  open_answer(c, answer, session, id, size);
}

// Sends an opened answer, or what is left of one; returns 0 when the connection must be closed.
static int say(int fd, struct connection *c) {
  const struct answer *answer = c->saying;
  while (c->said < c->opened + answer->length) {
    struct iovec parts[2] = {{c->opening, c->opened}, {answer->tail, answer->length}}, *from = parts;
    size_t said = c->said;
    if (said >= c->opened) said -= c->opened, from++;
    from->iov_base = (char *)from->iov_base + said, from->iov_len -= said;
    ssize_t count = writev(fd, from, (int)(parts + 2 - from));
    if (count > 0) {
      c->said += (size_t)count;
    } else if (errno == EAGAIN) {
      struct epoll_event event = {.events = EPOLLOUT, .data.fd = fd};
      c->waiting = 1;
      return !epoll_ctl(polled, EPOLL_CTL_MOD, fd, &event);
    } else {
      return 0;
    }
  }
  c->said = 0, c->saying = NULL;
  if (c->waiting) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    c->waiting = 0;
    return !epoll_ctl(polled, EPOLL_CTL_MOD, fd, &event);
  }
  return 1;
}

// Answers every whole request in the buffer; returns 0 when the connection must be closed.
static int serve(int fd, struct connection *c) {
  if (c->saying && !c->skip) return say(fd, c);
  ssize_t got = read(fd, c->buffer + c->used, BUFFER - c->used - 1);
  if (got <= 0) return got < 0 && errno == EAGAIN;
  if (c->skip) {
    if ((size_t)got < c->skip) return c->skip -= (size_t)got, 1;
    size_t rest = (size_t)got - c->skip;
    memmove(c->buffer, c->buffer + c->skip, rest);
    c->skip = 0, c->used = rest;
    if (!say(fd, c)) return 0;
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
      // Of a body larger than the buffer the beginning says enough.
      if (head + body < BUFFER || c->used < head + OPENING) return 1;
      answer_to(c, c->buffer + head, c->used - head);
      c->skip = head + body - c->used, c->used = 0;
      return 1;
    }
    answer_to(c, c->buffer + head, body);
    char *line = strchr(c->buffer, '\r');
    if (!body && !strncmp(c->buffer, "GET ", 4) && line - c->buffer > 20 && !strncmp(line - 16, "?stream", 7))
      c->opened = (size_t)sprintf(c->opening, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                              "Transfer-Encoding: chunked\r\n\r\n");
    if (!say(fd, c)) return 0;
    memmove(c->buffer, c->buffer + head + body, c->used - head - body);
    c->used -= head + body;
    if (!c->used) return 1;
  }
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 3) return fprintf(stderr, "usage: upstream PORT [sessions]\n"), 2;
  sessions = argc == 3;
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
