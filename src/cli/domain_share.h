/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a libvirt domain's XML says of its virtiofs devices and its memory.
 */

#include <stdbool.h>
#include <stddef.h>

#define SHARE_DEVICES_MAX 16
#define SHARE_PATH_SIZE 512
#define SHARE_WORD_SIZE 64

/** One virtiofs device; a text that is missing is empty, a longer one is cut. */
struct share_device {
    char source[SHARE_PATH_SIZE]; /* directory on the host */
    char tag[SHARE_WORD_SIZE];    /* the guest's name for it */
    char cache[SHARE_WORD_SIZE];  /* "none", "always", or empty for virtiofsd's own default */
    char binary[SHARE_PATH_SIZE]; /* virtiofsd, empty for libvirt's choice */
};

struct domain_share {
    bool shared_memory; /* QEMU can hand all memory to virtiofsd */
    size_t n_devices;   /* those beyond SHARE_DEVICES_MAX are left out */
    struct share_device devices[SHARE_DEVICES_MAX];
};

/**
 * Reads a domain's XML.
 * @param xml  need not be NUL-terminated; any bytes
 * @return 0; -EBADMSG where it is no domain's XML, ret is then untouched; or -ENOMEM
 */
int domain_share_parse(const char *xml, size_t length, struct domain_share *ret);
