/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <net-snmp/net-snmp-config.h>

#include <net-snmp/net-snmp-includes.h>

#include "meter/meter_snmp.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "meter/credentials.h"
#include "meter/meter_threaded.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define TRY_TIMEOUT_US 1500000
#define RETRIES 2
/* For SNMPv3's discovery and the question itself. */
#define ANSWER_TIMEOUT_NS (15 * NSEC_PER_SEC)

static int set_v3(netsnmp_session *session, struct credentials *credentials)
{
    int auth = usm_lookup_auth_type(credentials->auth[0] ? credentials->auth : "SHA-256");
    int privacy = usm_lookup_priv_type(credentials->privacy);

    session->version = SNMP_VERSION_3;
    session->securityModel = SNMP_SEC_MODEL_USM;
    session->securityName = credentials->user;
    session->securityNameLen = strlen(credentials->user);
    session->securityLevel = SNMP_SEC_LEVEL_AUTHNOPRIV;
    session->securityAuthProto = sc_get_auth_oid(auth, &session->securityAuthProtoLen);
    session->securityAuthKeyLen = USM_AUTH_KU_LEN;
    if (!session->securityAuthProto ||
        generate_Ku(session->securityAuthProto, (u_int)session->securityAuthProtoLen,
                    (u_char *)credentials->password, strlen(credentials->password),
                    session->securityAuthKey, &session->securityAuthKeyLen) != SNMPERR_SUCCESS)
        return -EINVAL;
    if (!credentials->privacy[0])
        return 0;
    session->securityLevel = SNMP_SEC_LEVEL_AUTHPRIV;
    session->securityPrivProto = sc_get_priv_oid(privacy, &session->securityPrivProtoLen);
    session->securityPrivKeyLen = USM_PRIV_KU_LEN;
    if (!session->securityPrivProto ||
        generate_Ku(session->securityAuthProto, (u_int)session->securityAuthProtoLen,
                    (u_char *)credentials->privacy_password, strlen(credentials->privacy_password),
                    session->securityPrivKey, &session->securityPrivKeyLen) != SNMPERR_SUCCESS)
        return -EINVAL;
    return 0;
}

static const struct meter_code session_errors[] = {
    {SNMPERR_TIMEOUT, METER_SILENT, "no answer: wrong address or community, or the agent is down"},
    {SNMPERR_UNKNOWN_ENG_ID, METER_SILENT, NULL},
    {SNMPERR_BAD_ADDRESS, METER_ABSENT, NULL},
    {SNMPERR_UNKNOWN_USER_NAME, METER_UNAUTHORISED, NULL},
    {SNMPERR_AUTHENTICATION_FAILURE, METER_UNAUTHORISED, NULL},
    {SNMPERR_UNSUPPORTED_SEC_LEVEL, METER_UNAUTHORISED, NULL},
    {SNMPERR_DECRYPTION_ERR, METER_UNAUTHORISED, NULL},
    {METER_CODE_OTHER, METER_MALFORMED, NULL},
};

static const struct meter_code agent_errors[] = {
    {SNMP_ERR_NOSUCHNAME, METER_ABSENT, "the agent has no such object"},
    {SNMP_ERR_NOACCESS, METER_UNAUTHORISED, "the agent refuses access"},
    {SNMP_ERR_AUTHORIZATIONERROR, METER_UNAUTHORISED, "the agent refuses access"},
    {METER_CODE_OTHER, METER_BUSY, NULL},
};

static const struct meter_code types[] = {
    {ASN_INTEGER, METER_OK, NULL},
    {ASN_GAUGE, METER_OK, NULL},
    {SNMP_NOSUCHOBJECT, METER_ABSENT, "the agent has no such object"},
    {SNMP_NOSUCHINSTANCE, METER_ABSENT, "the agent has no such object"},
    {SNMP_ENDOFMIBVIEW, METER_ABSENT, "the agent has no such object"},
    {ASN_COUNTER, METER_MALFORMED, "the object is a counter, not a gauge"},
    {ASN_COUNTER64, METER_MALFORMED, "the object is a counter, not a gauge"},
    {METER_CODE_OTHER, METER_MALFORMED, NULL},
};

/* @param text  the library's, for a row without its own */
static void fail(struct meter_outcome *outcome, const struct meter_code *row, const char *text)
{
    meter_outcome_fail(outcome, row->state, "%s", row->detail ? row->detail : text);
}

/* @return whether the variable is that gauge; its value is added */
static bool take_gauge(const netsnmp_variable_list *variable, const struct snmp_oid *id,
                       uint64_t *sum, struct meter_outcome *outcome)
{
    bool same = variable && variable->name_length == id->n;
    const struct meter_code *row;
    char text[64];

    for (size_t i = 0; same && i < id->n; i++)
        same = variable->name[i] == id->parts[i];
    if (!same) {
        meter_outcome_fail(outcome, METER_MALFORMED, "the answer is to another question");
        return false;
    }
    row = meter_find_code(types, variable->type);
    if (row->state != METER_OK) {
        snprintf(text, sizeof(text), "the object is of type 0x%02x, not a gauge", variable->type);
        fail(outcome, row, text);
        return false;
    }
    /* A negative power is as absurd as none. */
    if (*variable->val.integer > 0)
        *sum += (uint64_t)*variable->val.integer;
    return true;
}

static void take_response(const struct snmp_options *options, const netsnmp_pdu *response,
                          struct meter_outcome *ret)
{
    const netsnmp_variable_list *variable = response->variables;
    uint64_t sum = 0;

    if (response->errstat != SNMP_ERR_NOERROR) {
        fail(ret, meter_find_code(agent_errors, response->errstat),
             snmp_errstring((int)response->errstat));
        return;
    }
    for (size_t i = 0; i < options->oids.n; i++) {
        if (!take_gauge(variable, &options->oids.list[i], &sum, ret))
            return;
        variable = variable->next_variable;
    }
    ret->state = METER_OK;
    ret->reading = (struct meter_reading){
        .power_uw = sum < UINT64_MAX / options->unit_uw ? sum * options->unit_uw : UINT64_MAX,
        .resolution_uw = options->unit_uw,
    };
}

static netsnmp_pdu *new_question(const struct snmp_oids *oids)
{
    netsnmp_pdu *pdu = snmp_pdu_create(SNMP_MSG_GET);

    for (size_t i = 0; pdu && i < oids->n; i++) {
        oid name[SNMP_OID_PARTS_MAX];

        for (size_t k = 0; k < oids->list[i].n; k++)
            name[k] = oids->list[i].parts[k];
        if (!snmp_add_null_var(pdu, name, oids->list[i].n)) {
            snmp_free_pdu(pdu);
            return NULL;
        }
    }
    return pdu;
}

static void ask(const struct snmp_options *options, netsnmp_session *wanted,
                struct meter_outcome *ret)
{
    void *session = snmp_sess_open(wanted);
    netsnmp_pdu *question, *response = NULL;
    int error;

    if (!session) {
        fail(ret, meter_find_code(session_errors, wanted->s_snmp_errno),
             snmp_api_errstring(wanted->s_snmp_errno));
        return;
    }
    question = new_question(&options->oids);
    if (!question) {
        meter_outcome_fail(ret, METER_ABSENT, "out of memory");
    } else if (snmp_sess_synch_response(session, question, &response) == STAT_SUCCESS && response) {
        take_response(options, response, ret);
    } else {
        snmp_sess_error(session, NULL, &error, NULL);
        fail(ret, meter_find_code(session_errors, error), snmp_api_errstring(error));
    }
    if (response)
        snmp_free_pdu(response);
    snmp_sess_close(session);
}

/* The file is read for each question: a password that changes is no reason for a restart. */
static void snmp_meter_read(void *reader, struct meter_outcome *ret)
{
    struct snmp_options *options = reader;
    struct credentials credentials;
    netsnmp_session session;

    if (!meter_load_credentials(options->credentials, &credentials, ret))
        return;
    snmp_sess_init(&session);
    session.peername = options->address;
    session.timeout = TRY_TIMEOUT_US;
    session.retries = RETRIES;
    session.version = SNMP_VERSION_2c;
    session.community = (u_char *)credentials.community;
    session.community_len = strlen(credentials.community);
    if (credentials.user[0] && set_v3(&session, &credentials) < 0)
        meter_outcome_fail(ret, METER_UNAUTHORISED,
                           "%s: auth or privacy unknown, or a password shorter than 8",
                           options->credentials);
    else
        ask(options, &session, ret);
    explicit_bzero(&session, sizeof(session));
    credentials_deinit(&credentials);
}

static const struct meter_reader_ops snmp_ops = {
    .name = "snmp",
    .read = snmp_meter_read,
    .free = free,
};

/* The configuration of virtjouled is all that counts: the library reads no files of its own and no
   MIBs, and prints no messages. */
static void init_library(void)
{
    netsnmp_ds_set_boolean(NETSNMP_DS_LIBRARY_ID, NETSNMP_DS_LIB_DONT_READ_CONFIGS, 1);
    netsnmp_ds_set_boolean(NETSNMP_DS_LIBRARY_ID, NETSNMP_DS_LIB_DONT_PERSIST_STATE, 1);
    netsnmp_ds_set_string(NETSNMP_DS_LIBRARY_ID, NETSNMP_DS_LIB_MIBDIRS, "");
    netsnmp_register_loghandler(NETSNMP_LOGHANDLER_NONE, LOG_DEBUG);
    init_snmp("virtjouled");
}

int meter_snmp_new(struct meter **ret, const struct meter_host *host,
                   const struct snmp_options *options)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    _cleanup_free_ struct snmp_options *reader = NULL;
    int r;

    if (!options->address[0])
        return 0;
    reader = malloc(sizeof(*reader));
    if (!reader)
        return -ENOMEM;
    pthread_once(&once, init_library);
    *reader = *options;
    r = meter_threaded_new(ret, host->event, &snmp_ops, reader, options->interval_ns,
                           ANSWER_TIMEOUT_NS);
    if (r == 0)
        (void)TAKE_PTR(reader);
    return r;
}
