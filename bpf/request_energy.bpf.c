/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * What an HTTP request costs: told in the header of its response, and in full
 * when the last work for it is done.
 *
 *     bytes received --(request's head)--> request <--(work of the tasks bound to it)-- scheduler
 *                                             |
 *     bytes sent <--(X-Energy-Score)----------+--(when it is over)--> ring buffer
 *
 * Connections are taken in when they are established, by sockops on the watched
 * cgroups, inbound ones only. Those that were there before, if their port is one
 * that is listened on, start with the next request. Each gets a struct connection with its
 * socket, and a place in the map of sockets, which makes it run rewrite_response() on all it sends.
 *
 * Requests are read where the application reads them: at the return of
 * tcp_recvmsg(), from the buffer that was just filled. That costs nothing for
 * bytes that nobody asked for, sees them once and in order (packets may come
 * twice and crossed), tells who reads, and leaves the receiving path as it is (a
 * stream parser on the socket would take it over, FIONREAD and splice with it).
 * What is spliced away is not seen; it is a body, or the connection is lost.
 *
 * Responses are followed as they are sent. The field goes in right behind the
 * status line: that place is known as soon as the first byte of the next line
 * is there, however the head is cut; nothing is ever held back. A field of that
 * name by the application comes later, and loses a letter of its name. All of it
 * is done by the rules of http_stream.h; what is doubtful is left alone, from
 * there on for ever.
 *
 * Places in the streams are TCP's sequence numbers, drawn out to 64 bits. The
 * kernel may take less than it was given, and the sender sends the rest again.
 * That must not happen to bytes of which a program said that they may pass: the
 * kernel then shows it none of the next ones, and miscounts what it took of a
 * part that grew. So a verdict is on no more than the socket takes for sure, and
 * where that is nothing, on a single byte of a head, which is taken or is not. The
 * field then waits for a line before which there is room; if there is none, as may
 * be where the client pipelines and reads slowly, that response has no field.
 *
 * Requests are answered in order. A task that reads from or writes to a
 * connection works for the oldest request there that has no response yet.
 */

#include "request_kernel.h"

#include "request_energy.h"
#include "request_work.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define SOCKETS_MAX 65536
#define PIPELINE_MAX 64  /* requests that may wait on one connection */
#define HEAD_WINDOW 8192 /* bytes of a message that are looked at in one go */
#define CHUNK 64
#define CGROUP_LEVELS_MAX 64
#define STEPS_MAX 16      /* events in one segment */
#define VECTORS_MAX 8     /* buffers of one read */
#define SEGMENT_COST 4096 /* at most, of a socket's buffer and beside its bytes */
#define SEGMENT_MAX 16384

#define LINE_MAX 48 /* "X-Energy-Score: ", 20 digits, line end */

/*
 * How far the bytes of one call are read, and of one message. Here and not on
 * the stack: Linux 6.1 takes what a loop finds there at first for what it will
 * always find, and removes the branches that seem never to be taken.
 */
struct received {
    const char *bytes; /* of the application */
    __u32 n;
    __u32 i;
    __u32 from; /* the chunk's first byte */
    __u32 to;
};

struct sent {
    __u32 sure;  /* bytes that the socket takes at once */
    __u32 limit; /* of what is looked at */
    __u32 i;
    __u32 insert_at;
    __u32 event;
    bool insert;
};

struct connection {
    struct http_stream in, out;
    struct received received;
    struct sent sent;
    __u64 cookie;
    __u64 first; /* the oldest request without a response; its number on this connection */
    __u64 next;  /* the number of the next request */
    bool is_unstarted;
    char chunk[CHUNK];
    char line[LINE_MAX];
};

struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct connection);
} connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKHASH);
    __uint(max_entries, SOCKETS_MAX);
    __type(key, __u64);
    __type(value, __u64);
} sockets SEC(".maps");

/* Set while older connections are taken in: the cgroup whose they are. */
__u64 older_cgroup = 0;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u16);
    __type(value, __u8);
} listening SEC(".maps");

/* Cookies count up; 2^20 requests later a number may come again. */
static __u64 id_of(const struct connection *c, __u64 number)
{
    return c->cookie << 20 | (number & 0xfffff);
}

static __u64 place_of(const struct http_stream *s, __u32 sequence)
{
    return s->position + (__s64)(__s32)(sequence - (__u32)s->position);
}

static __u64 first_request(const struct connection *c)
{
    return c->first < c->next ? id_of(c, c->first) : 0;
}

static void end_response(struct connection *c)
{
    struct request *request = find_request(first_request(c));

    if (!request)
        return;
    request->status = c->out.status;
    end_request(first_request(c), REQUEST_ANSWERED);
    c->first++;
}

static long leave_request(__u32 i, struct connection **context)
{
    struct connection *c = *context;

    if (c->first >= c->next)
        return 1;
    end_request(id_of(c, c->first), c->out.state == HTTP_LOST ? REQUEST_LEFT : REQUEST_CLOSED);
    c->first++;
    return 0;
}

static void leave_requests(struct connection *c)
{
    if (c->out.state == HTTP_UNTIL_CLOSE)
        end_response(c);
    bpf_loop(PIPELINE_MAX, leave_request, &c, 0);
}

/* Takes in how far the stream of responses got; a body's end may have gone by unseen. */
static void settle(struct connection *c, __u32 sequence)
{
    struct http_stream *out = &c->out;

    http_seek(out, place_of(out, sequence));
    if (out->state == HTTP_BODY && out->position == out->body_end && http_skip(out, 0) == HTTP_END)
        end_response(c);
}

/* Connections. */

static void start(struct connection *c, __u32 received, __u32 sent)
{
    c->in.position = received;
    c->out.position = sent;
    c->out.is_response = 1;
    c->is_unstarted = false;
}

SEC("sockops")
int take_in(struct bpf_sock_ops *ops)
{
    struct bpf_sock *sk = ops->sk;
    struct connection *c;
    __u64 cookie;

    if (ops->op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB || !sk)
        return 1;
    c = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!c)
        return 1;
    cookie = bpf_get_socket_cookie(ops);
    c->cookie = cookie;
    start(c, ops->rcv_nxt, ops->snd_nxt);
    if (bpf_sock_hash_update(ops, &sockets, &cookie, BPF_NOEXIST) < 0)
        bpf_sk_storage_delete(&connections, sk);
    return 1;
}

struct levels {
    const struct cgroup *cgroup;
    bool is_older;
};

static long climb(__u32 i, struct levels *levels)
{
    const struct cgroup *cgroup = levels->cgroup;

    if (!cgroup)
        return 1;
    if (BPF_CORE_READ(cgroup, kn, id) == older_cgroup) {
        levels->is_older = true;
        return 1;
    }
    levels->cgroup = (const struct cgroup *)BPF_CORE_READ(cgroup, self.parent);
    return 0;
}

static bool is_in_older_cgroup(const struct sock_common *sk)
{
    struct levels levels = {
        .cgroup = BPF_CORE_READ((const struct sock *)sk, sk_cgrp_data.cgroup),
    };

    bpf_loop(CGROUP_LEVELS_MAX, climb, &levels, 0);
    return levels.is_older;
}

static void take_in_older(struct tcp_sock *tcp)
{
    struct connection *c;
    __u64 cookie;

    if (bpf_sk_storage_get(&connections, tcp, NULL, 0))
        return;
    c = bpf_sk_storage_get(&connections, tcp, NULL, BPF_SK_STORAGE_GET_F_CREATE);
    if (!c)
        return;
    cookie = bpf_get_socket_cookie(tcp);
    c->cookie = cookie;
    c->is_unstarted = true;
    if (bpf_map_update_elem(&sockets, &cookie, tcp, BPF_NOEXIST) < 0)
        bpf_sk_storage_delete(&connections, tcp);
}

/* Those that were there before us, of a cgroup. The kernel shows what listens first. */
SEC("iter/tcp")
int take_in_older_ones(struct bpf_iter__tcp *context)
{
    struct sock_common *sk = context->sk_common;
    struct tcp_sock *tcp;
    __u16 port;

    if (!sk || !is_in_older_cgroup(sk))
        return 0;
    port = sk->skc_num;
    if (sk->skc_state == TCP_LISTEN)
        bpf_map_update_elem(&listening, &port, &(__u8){1}, BPF_ANY);
    else if (sk->skc_state == TCP_ESTABLISHED && bpf_map_lookup_elem(&listening, &port)) {
        tcp = bpf_skc_to_tcp_sock(sk);
        if (tcp)
            take_in_older(tcp);
    }
    return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(close_connection, struct sock *sk, int old_state, int state)
{
    struct connection *c;

    if (state != TCP_CLOSE)
        return 0;
    c = bpf_sk_storage_get(&connections, sk, NULL, 0);
    if (!c)
        return 0;
    if (c->out.state == HTTP_BODY)
        settle(c, BPF_CORE_READ((struct tcp_sock *)sk, snd_nxt));
    leave_requests(c);
    return 0;
}

/* Requests. */

static void begin_request(struct connection *c)
{
    struct request request = {
        .id = id_of(c, c->next),
        .method = c->in.method,
        .arrived_ns = bpf_ktime_get_ns(),
        .path_length = c->in.path_length,
    };

    __builtin_memcpy(request.path, c->in.path, sizeof(request.path));
    if (c->next - c->first >= PIPELINE_MAX ||
        bpf_map_update_elem(&requests, &request.id, &request, BPF_NOEXIST) < 0) {
        __sync_fetch_and_add(&refused, 1);
        http_lose(&c->in);
        return;
    }
    c->next++;
}

/* @return whether the byte that is next is in the chunk */
static bool load_chunk(struct connection *c)
{
    struct received *r = &c->received;
    __u64 length = r->n - r->i;

    if (r->i < r->to)
        return true;
    barrier_var(length); /* else the verifier loses what the comparison says */
    if (length > CHUNK)
        length = CHUNK;
    if (bpf_probe_read_user(c->chunk, length, r->bytes + r->i) < 0)
        return false;
    r->from = r->i;
    r->to = r->i + length;
    return true;
}

/* One byte, or more of what says nothing. */
static long receive_step(__u32 index, struct connection **context)
{
    struct connection *c = *context;
    struct received *r = &c->received;
    struct http_stream *in = &c->in;
    __u64 offset;

    if (r->i >= r->n || in->state == HTTP_LOST)
        return 1;
    if (http_is_in_body(in)) {
        __u32 length = http_body_bytes(in, r->n - r->i);

        http_skip(in, length);
        r->i += length;
        return 0;
    }
    if (!load_chunk(c)) {
        http_lose(in);
        return 1;
    }
    offset = r->i - r->from;
    barrier_var(offset);
    if (in->state == HTTP_REST && r->to - r->i >= sizeof(__u64) &&
        offset <= CHUNK - sizeof(__u64) && http_has_no_line_feed(*(__u64 *)(c->chunk + offset))) {
        in->position += sizeof(__u64);
        r->i += sizeof(__u64);
        return 0;
    }
    if (http_step(in, c->chunk[offset & (CHUNK - 1)]) == HTTP_HEAD)
        begin_request(c);
    r->i++;
    return 0;
}

static void receive(struct connection *c, const char *bytes, __u32 n)
{
    c->received = (struct received){.bytes = bytes, .n = n};
    bpf_loop(1 << 20, receive_step, &c, 0);
}

/* Where a task has read to: one buffer, or several; neither if that is not known. */
struct destination {
    const char *bytes;
    const struct iovec *vectors; /* of the application */
};

static void receive_vectors(struct connection *c, const struct iovec *vectors, __u32 n)
{
    for (int i = 0; i < VECTORS_MAX && n; i++) {
        struct iovec vector = {0};

        bpf_probe_read_user(&vector, sizeof(vector), vectors + i);
        if (vector.iov_len > n)
            vector.iov_len = n;
        receive(c, vector.iov_base, vector.iov_len);
        n -= vector.iov_len;
    }
}

/* Where an iterator's last n bytes went, if they lie in one buffer. */
static const char *find_bytes(const struct iov_iter *iter, __u32 n)
{
    __u64 offset = BPF_CORE_READ(iter, iov_offset), length;
    __u8 type = BPF_CORE_READ(iter, iter_type);
    const struct iovec *vector;

    if (bpf_core_enum_value_exists(enum iter_type, ITER_UBUF) &&
        type == bpf_core_enum_value(enum iter_type, ITER_UBUF))
        return (const char *)BPF_CORE_READ(iter, ubuf) + offset - n;
    if (type != bpf_core_enum_value(enum iter_type, ITER_IOVEC))
        return NULL;
    if (bpf_core_field_exists(((struct iov_iter___renamed *)iter)->__iov))
        vector = BPF_CORE_READ((struct iov_iter___renamed *)iter, __iov);
    else
        vector = BPF_CORE_READ(iter, iov);
    if (offset >= n)
        return (const char *)BPF_PROBE_READ(vector, iov_base) + offset - n;
    if (offset)
        return NULL; /* it lies in two */
    length = BPF_PROBE_READ(vector - 1, iov_len);
    return length >= n ? (const char *)BPF_PROBE_READ(vector - 1, iov_base) + length - n : NULL;
}

/* The place behind the last byte that was read. */
static __u32 end_of_read(struct sock *sk)
{
    __u32 end = BPF_CORE_READ((struct tcp_sock *)sk, copied_seq);

    /* The end of the stream has a number as well, and may have been read together with bytes. */
    return BPF_CORE_READ(sk, sk_shutdown) & RCV_SHUTDOWN &&
                   BPF_CORE_READ((struct tcp_sock *)sk, rcv_nxt) == end
               ? end - 1
               : end;
}

static void read_requests(struct sock *sk, const struct destination *destination, int flags, int n)
{
    struct connection *c;
    __u32 end, written;

    if (flags & (MSG_PEEK | MSG_ERRQUEUE))
        return;
    c = bpf_sk_storage_get(&connections, sk, NULL, 0);
    if (!c || c->in.state == HTTP_LOST)
        return;
    end = end_of_read(sk);
    written = BPF_CORE_READ((struct tcp_sock *)sk, write_seq);
    /* One that reads on when the client has all that was sent has answered the former requests. */
    if (c->is_unstarted && BPF_CORE_READ((struct tcp_sock *)sk, snd_una) == written)
        start(c, end - n, written);
    if (c->is_unstarted)
        return;
    if (c->out.state == HTTP_BODY)
        settle(c, written);
    http_seek(&c->in, place_of(&c->in, end - n));
    if (destination->bytes && !(flags & MSG_TRUNC))
        receive(c, destination->bytes, n);
    else if (destination->vectors && !(flags & MSG_TRUNC))
        receive_vectors(c, destination->vectors, n);
    http_seek(&c->in, place_of(&c->in, end));
    if (first_request(c))
        turn_to_read(first_request(c));
}

/* By what the system call was asked for. */
static struct destination find_argument(void)
{
    struct pt_regs *registers = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
    const char *argument = (const char *)registers->si;
    struct user_msghdr message = {0};

    switch (registers->orig_ax) {
    case NR_read:
    case NR_recvfrom:
        return (struct destination){.bytes = argument};
    case NR_readv:
        return (struct destination){.vectors = (const struct iovec *)argument};
    case NR_recvmsg:
        bpf_probe_read_user(&message, sizeof(message), argument);
        return (struct destination){.vectors = message.msg_iov};
    default:
        return (struct destination){0};
    }
}

SEC("fexit/tcp_recvmsg")
int BPF_PROG(read_at_exit, struct sock *sk, struct msghdr *message, __u64 size, int flags,
             int *address_length, int n)
{
    struct destination destination = {0};

    if (n <= 0)
        return 0;
    destination.bytes = find_bytes(&message->msg_iter, n);
    if (!destination.bytes)
        destination = find_argument();
    read_requests(sk, &destination, flags, n);
    return 0;
}

/*
 * Where fexit is refused: the tracepoint behind it (Linux 6.3). Reads by
 * io_uring are not seen.
 */
SEC("tp_btf/sock_recv_length")
int BPF_PROG(read_at_tracepoint, struct sock *sk, int n, int flags)
{
    struct destination destination;

    if (n <= 0)
        return 0;
    destination = find_argument();
    read_requests(sk, &destination, flags, n);
    return 0;
}

/* Responses. */

struct sending {
    struct sk_msg_md *message;
    struct connection *c;
};

static long send_step(__u32 index, struct sending *sending)
{
    struct http_stream *out = &sending->c->out;
    struct sent *s = &sending->c->sent;
    char *data, *end;
    __u32 i = s->i, length;
    __u8 c;

    if (http_is_in_body(out)) {
        length = http_body_bytes(out, s->limit - i);
        s->i += length;
        s->event = http_skip(out, length);
        return s->event != HTTP_MORE || s->i >= s->limit;
    }
    if (http_takes_field(out) && !s->insert && i + 1 + LINE_MAX > s->sure) {
        if (i)
            return 1;
        s->limit = 1; /* byte by byte there is no room at all soon, and then there is enough */
    }
    if (i >= s->limit)
        return 1;
    if (i >= HEAD_WINDOW)
        return 1;
    data = (void *)(long)sending->message->data;
    end = (void *)(long)sending->message->data_end;
    data += i;
    if (out->state == HTTP_REST && i + sizeof(__u64) <= s->limit && data + sizeof(__u64) <= end &&
        http_has_no_line_feed(*(__u64 *)data)) {
        out->position += sizeof(__u64);
        s->i += sizeof(__u64);
        return 0;
    }
    if (data + 1 > end)
        return 1;
    c = *data;
    s->event = http_step(out, c);
    s->i = i + 1;
    if (s->event == HTTP_FORGED)
        *data = HTTP_RENAMED;
    else if (s->event == HTTP_INSERT && !s->insert && i + 1 + LINE_MAX <= s->sure) {
        s->insert_at = i;
        s->insert = true;
        if (s->limit > s->sure - LINE_MAX)
            s->limit = s->sure - LINE_MAX;
    }
    return s->event == HTTP_END || s->event == HTTP_BAD;
}

/* The field's line with a number. @return its length */
static __u32 write_line(char *line, __u64 number)
{
    const char name[] = HTTP_SCORE_NAME ": ";
    char digits[20];
    __u32 n = 0, length = sizeof(name) - 1;

    __builtin_memcpy(line, name, sizeof(name) - 1);
    for (int i = sizeof(digits) - 1; i >= 0; i--) {
        digits[i] = '0' + number % 10;
        number /= 10;
    }
    for (unsigned i = 0; i < sizeof(digits); i++) {
        if (!n && digits[i] == '0' && i < sizeof(digits) - 1)
            continue;
        if (length < LINE_MAX - 2)
            line[length++] = digits[i];
        n++;
    }
    if (length > LINE_MAX - 2)
        return 0;
    line[length] = '\r';
    line[length + 1] = '\n';
    return length + 2;
}

/* How far what waits to be sent is from the limit that somebody has set for it. */
static __s64 unsent_room(const struct tcp_sock *tcp)
{
    const struct net *net = ((const struct sock *)tcp)->__sk_common.skc_net.net;
    __u32 limit = tcp->notsent_lowat ?: (__u32)net->ipv4.sysctl_tcp_notsent_lowat;

    return (__s64)limit - (__s32)(tcp->write_seq - tcp->snd_nxt);
}

/*
 * How many bytes the socket takes at once. It asks for room when it begins a
 * segment: no more than one does for so few bytes as fill neither the room nor a
 * segment; of more, the segments' own cost is allowed for.
 */
static __u32 sure_bytes(const struct tcp_sock *tcp)
{
    const struct sock *sk = (const struct sock *)tcp;
    __s64 room = sk->sk_sndbuf - sk->sk_wmem_queued, unsent = unsent_room(tcp);
    __u32 few, many = 0;

    if (unsent < room)
        room = unsent;
    if (room <= 0)
        return 0;
    few = room < SEGMENT_MAX ? room : SEGMENT_MAX;
    if (few > tcp->mss_cache)
        few = tcp->mss_cache;
    if (room > SEGMENT_COST)
        many = (__u32)(room - SEGMENT_COST) / 4;
    return few > many ? few : many;
}

/*
 * How many bytes to let pass that the socket may not take all. In a body that is
 * a part so small that those which then go by unseen do not reach its end.
 */
static __u32 unsure_bytes(const struct http_stream *out)
{
    __u64 part = out->state == HTTP_BODY ? (out->body_end - out->position) / 64 : 0;

    return part < SEGMENT_MAX ? part + 1 : SEGMENT_MAX;
}

struct insertion {
    struct sk_msg_md *message;
    struct connection *c;
    __u32 at;
};

static long write_step(__u32 i, struct insertion *w)
{
    char *data = (void *)(long)w->message->data, *end = (void *)(long)w->message->data_end;
    __u64 from = i, at;

    barrier_var(from); /* else the verifier loses what the comparison says */
    if (from >= LINE_MAX)
        return 1;
    at = w->at + from;
    barrier_var(at);
    if (at >= HEAD_WINDOW + LINE_MAX)
        return 1;
    data += at;
    if (data + 1 > end)
        return 1;
    *data = w->c->line[from];
    return 0;
}

/* @return how much the message grew, or a negative errno: it is beyond repair */
static int insert_line(struct sk_msg_md *message, struct connection *c, __u32 at)
{
    struct insertion insertion = {message, c, at};
    __u64 id = first_request(c);
    struct request *request;
    struct request_cpu *cpu = this_cpu();
    __u32 length;
    int r;

    if (!id || !cpu)
        return 0;
    charge_running(cpu);
    request = find_request(id);
    if (!request)
        return 0;
    request->header_uj = request->energy >> REQUEST_ENERGY_BITS;
    request->header_ns = bpf_ktime_get_ns();
    length = write_line(c->line, request->header_uj);
    if (bpf_msg_push_data(message, at, length, 0) < 0)
        return 0;
    r = bpf_msg_pull_data(message, 0, at + length, 0);
    if (r < 0)
        return bpf_msg_pop_data(message, at, length, 0) < 0 ? r : 0;
    bpf_loop(length, write_step, &insertion, 0);
    http_shift(&c->out, length);
    request = find_request(id);
    if (request)
        request->has_header = 1;
    return length;
}

/* The method of the request that is answered next. */
static void prepare_response(struct connection *c)
{
    struct request *request;

    if (c->out.state != HTTP_START)
        return;
    request = find_request(first_request(c));
    if (request)
        c->out.method = request->method;
    else
        http_lose(&c->out); /* nobody asked */
}

SEC("sk_msg")
int rewrite_response(struct sk_msg_md *message)
{
    struct sending sending = {.message = message};
    struct sent *sent;
    __u32 size = message->size;
    __u32 window = message->size < HEAD_WINDOW ? message->size : HEAD_WINDOW;
    const struct tcp_sock *tcp;
    struct connection *c;
    int grown = 0;

    bpf_msg_apply_bytes(message, 0); /* what the last verdict on this message said still holds */
    if (!message->sk)
        return SK_PASS;
    tcp = bpf_skc_to_tcp_sock(message->sk);
    if (!tcp)
        return SK_PASS;
    c = bpf_sk_storage_get(&connections, (void *)message->sk, NULL, 0);
    if (!c || c->is_unstarted || c->out.state == HTTP_LOST)
        return SK_PASS;
    settle(c, tcp->write_seq);
    prepare_response(c);
    if (first_request(c))
        turn_to_written(first_request(c));
    sending.c = c;
    sent = &c->sent;
    *sent = (struct sent){.limit = size, .sure = sure_bytes(tcp)};
    if (c->out.state != HTTP_UNTIL_CLOSE && size > sent->sure)
        sent->limit = sent->sure ?: unsure_bytes(&c->out);
    if (sent->limit > size)
        sent->limit = size;
    if (!http_is_in_body(&c->out) && message->data_end - message->data < window)
        bpf_msg_pull_data(message, 0, window, 0);
    bpf_loop(2 * HEAD_WINDOW, send_step, &sending, 0);
    if (sent->insert)
        grown = insert_line(message, c, sent->insert_at);
    if (sent->event == HTTP_END) {
        doubt_running(first_request(c));
        end_response(c);
    }
    if (c->out.state == HTTP_LOST) {
        leave_requests(c);
        return grown < 0 ? SK_DROP : SK_PASS;
    }
    if (grown < 0)
        return SK_DROP;
    /* The rest is another response, or more of a head than is looked at in one go. */
    if (sent->i < size)
        bpf_msg_apply_bytes(message, sent->i + grown);
    return SK_PASS;
}
