/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a libvirt domain's XML says of its virtiofs devices and its memory.
 */

#include <stdbool.h>
#include <stddef.h>

#define VIRTIOFS_DEVICES_MAX 16
#define VIRTIOFS_PATH_SIZE 512
#define VIRTIOFS_WORD_SIZE 64

/** One virtiofs device; a text that is missing is empty, a longer one is cut. */
struct virtiofs_device {
    char source[VIRTIOFS_PATH_SIZE]; /* directory on the host */
    char tag[VIRTIOFS_WORD_SIZE];    /* the guest's name for it */
    char cache[VIRTIOFS_WORD_SIZE];  /* "none", "always", or empty for virtiofsd's own default */
    char binary[VIRTIOFS_PATH_SIZE]; /* virtiofsd, empty for libvirt's choice */
};

struct domain_virtiofs {
    bool shared_memory; /* QEMU can hand all memory to virtiofsd */
    size_t n_devices;   /* those beyond VIRTIOFS_DEVICES_MAX are left out */
    struct virtiofs_device devices[VIRTIOFS_DEVICES_MAX];
};

/**
 * Reads a domain's XML.
 * @param xml  need not be NUL-terminated; any bytes
 * @return 0; -EBADMSG where it is no domain's XML, ret is then untouched; or -ENOMEM
 */
int domain_virtiofs_parse(const char *xml, size_t length, struct domain_virtiofs *ret);
