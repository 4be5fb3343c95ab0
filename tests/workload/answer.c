/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "answer.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "http_head.h"
#include "util/parse.h"
#include "work.h"

static void find_energy(struct answer *answer, struct slice head)
{
    static const char name[] = "X-Energy-Score";
    struct slice value = http_field(head, name);
    struct slice rest;

    if (!value.text)
        return;
    answer->has_energy = parse_u64(value.text, value.length, &answer->energy_uj) == 0;
    /* From the value's end on: http_field() leaves out the first line, which is this one's rest. */
    rest.text = value.text + value.length;
    rest.length = head.length - (size_t)(rest.text - head.text);
    answer->energy_wrong = !answer->has_energy || http_field(rest, name).text;
}

/* What follows the head (RFC 9112, section 6.3). */
static int find_body(struct answer *answer, struct slice head)
{
    int r;

    if (answer->head_request || answer->status == 204 || answer->status == 304) {
        answer->done = true;
        return 0;
    }
    if (http_field(head, "Transfer-Encoding").text) {
        /* Both framings at once: a sign of smuggling. */
        if (!http_field_has(head, "Transfer-Encoding", "chunked") ||
            http_field(head, "Content-Length").text)
            return -EBADMSG;
        answer->state = ANSWER_CHUNK_SIZE;
        return 0;
    }
    r = http_content_length(head, &answer->left);
    if (r < 0 && r != -ENOENT)
        return -EBADMSG;
    answer->state = r == 0 ? ANSWER_LENGTH : ANSWER_UNTIL_END;
    answer->close |= r < 0;
    answer->done = r == 0 && answer->left == 0;
    return 0;
}

static int end_head(struct answer *answer)
{
    struct slice head = {answer->line, answer->n_line};
    uint64_t status;

    /* "HTTP/1.1 200 OK" */
    if (head.length < 13 || memcmp(head.text, "HTTP/1.", 7) != 0 ||
        (head.text[7] != '0' && head.text[7] != '1') || head.text[8] != ' ' ||
        parse_u64(head.text + 9, 3, &status) < 0 || status < 100 ||
        (head.text[12] != ' ' && head.text[12] != '\r'))
        return -EBADMSG;
    answer->n_line = 0;
    /* 100 Continue and the like: the final one is yet to come; nobody here asks to upgrade. */
    if (status < 200)
        return status == 101 ? -EBADMSG : 0;
    answer->status = (unsigned)status;
    answer->close = head.text[7] == '0' || http_field_has(head, "Connection", "close");
    find_energy(answer, head);
    return find_body(answer, head);
}

/* @return -1: it is none */
static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "1f;extension" */
static int end_chunk_size(struct answer *answer)
{
    uint64_t size = 0;
    size_t i = 0;

    for (int digit; (digit = hex_digit(answer->line[i])) >= 0; i++) {
        if (size >> 60)
            return -EBADMSG;
        size = size << 4 | (unsigned)digit;
    }
    /* The line ends with a newline, so there is a byte behind the digits. */
    if (i == 0 || (answer->line[i] != ';' && answer->line[i] != '\r' && answer->line[i] != ' ' &&
                   answer->line[i] != '\t'))
        return -EBADMSG;
    answer->left = size;
    answer->state = size > 0 ? ANSWER_CHUNK : ANSWER_TRAILER;
    return 0;
}

static bool ends_with(const struct answer *answer, const char *text)
{
    size_t length = strlen(text);

    return answer->n_line >= length &&
           memcmp(answer->line + answer->n_line - length, text, length) == 0;
}

/* A line of a chunked body is there. */
static int end_line(struct answer *answer)
{
    int r = 0;

    if (answer->state == ANSWER_CHUNK_SIZE)
        r = end_chunk_size(answer);
    else if (answer->state == ANSWER_CHUNK_END && answer->n_line == 2)
        answer->state = ANSWER_CHUNK_SIZE;
    else if (answer->state == ANSWER_CHUNK_END)
        r = -EBADMSG;
    else
        answer->done = answer->n_line == 2; /* the empty line after the trailer */
    answer->n_line = 0;
    return r;
}

static int take_byte(struct answer *answer, char byte)
{
    if (answer->n_line == sizeof(answer->line))
        return -EMSGSIZE;
    answer->line[answer->n_line++] = byte;
    if (byte != '\n')
        return 0;
    if (answer->state == ANSWER_HEAD)
        return ends_with(answer, "\r\n\r\n") ? end_head(answer) : 0;
    return ends_with(answer, "\r\n") ? end_line(answer) : -EBADMSG;
}

static size_t take_body(struct answer *answer, const char *bytes, size_t length)
{
    bool bounded = answer->state != ANSWER_UNTIL_END;

    if (bounded && length > answer->left)
        length = (size_t)answer->left;
    if (answer->body_bytes == 0)
        answer->body_sum = WORK_SUM_START;
    answer->body_sum = work_sum(answer->body_sum, bytes, length);
    answer->body_bytes += length;
    if (!bounded)
        return length;
    answer->left -= length;
    if (answer->left == 0 && answer->state == ANSWER_CHUNK)
        answer->state = ANSWER_CHUNK_END;
    else if (answer->left == 0)
        answer->done = true;
    return length;
}

int answer_take(struct answer *answer, const char *bytes, size_t length, size_t *ret_taken)
{
    size_t taken = 0;

    while (taken < length && !answer->done) {
        enum answer_state state = answer->state;

        if (state == ANSWER_LENGTH || state == ANSWER_UNTIL_END || state == ANSWER_CHUNK) {
            taken += take_body(answer, bytes + taken, length - taken);
        } else {
            int r = take_byte(answer, bytes[taken]);

            if (r < 0)
                return r;
            taken++;
        }
    }
    *ret_taken = taken;
    return 0;
}

int answer_end(struct answer *answer)
{
    if (answer->state != ANSWER_UNTIL_END)
        return -EBADMSG;
    answer->done = true;
    return 0;
}
