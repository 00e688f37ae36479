// Calls a tool so many times a second, under an id of its own, each when its time has come and the
// one before is answered, and prints how long the answers took: p50, p99 and the longest, in microseconds.
// Usage: pace PORT RATE SECONDS
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b) {
  return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv) {
  if (argc != 4) return fprintf(stderr, "usage: pace PORT RATE SECONDS\n"), 2;
  double rate = atof(argv[2]);
  int calls = (int)(rate * atof(argv[3])), one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (connect(fd, (struct sockaddr *)&address, sizeof address)) return perror("pace"), 1;
  char request[1024], answer[8192];
  const char *body =
      "{\"jsonrpc\":\"2.0\",\"id\":1000000,\"method\":\"tools/call\",\"params\":{\"name\":\"plain\",\"arguments\":"
      "{\"city\":\"Paris\",\"units\":\"metric\",\"pad\":\"pppppppppppppppppppppppppppppppppppppppppppppp\"}}}";
  int length = sprintf(request,
                       "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
                       "Mcp-Method: tools/call\r\nMcp-Name: plain\r\nContent-Length: %zu\r\n\r\n%s",
                       strlen(body), body);
  char *id = strstr(request, "\"id\":") + 5;
  double *took = calloc((size_t)calls, sizeof *took), start = now();
  for (int i = 0; i < calls; i++) {
    double due = start + i / rate, wait = due - now();
    if (wait > 0) {
      struct timespec t = {(time_t)wait, (long)((wait - (double)(time_t)wait) * 1e9)};
      nanosleep(&t, NULL);
    }
    char digits[16];
    memcpy(id, digits, (size_t)sprintf(digits, "%d", 1000000 + i % 9000000));
    double sent = now();
    if (write(fd, request, (size_t)length) != length) return perror("pace"), 1;
    size_t used = 0, wanted = 0;
    while (!wanted || used < wanted) {
      ssize_t got = read(fd, answer + used, sizeof answer - used - 1);
      if (got <= 0) return fprintf(stderr, "pace: the connection was closed\n"), 1;
      used += (size_t)got;
      answer[used] = 0;
      char *end = strstr(answer, "\r\n\r\n"), *field = strcasestr(answer, "\r\ncontent-length:");
      if (end && field) wanted = (size_t)(end - answer) + 4 + strtoul(field + 17, NULL, 10);
    }
    if (strncmp(answer, "HTTP/1.1 200", 12)) return fprintf(stderr, "pace: %.40s\n", answer), 1;
    took[i] = (now() - sent) * 1e6;
  }
  qsort(took, (size_t)calls, sizeof *took, ascending);
  printf("%.0f %.0f %.0f\n", took[calls / 2], took[calls * 99 / 100], took[calls - 1]);
  return 0;
}
