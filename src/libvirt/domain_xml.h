/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a libvirt domain's XML needs for the energy share: found, put in and taken out again.
 * Pure functions from text to text; libvirt writes whatever it is given in its own way, so the
 * layout of a text is not kept, while every element, attribute and comment of the domain is.
 *
 * The share is a virtiofs device, and virtiofs needs memory that virtiofsd can
 * map: shared, and backed by a file descriptor. What was changed is recorded in
 * an element of our name space in the domain's metadata, so that a detach undoes
 * just that: whatever the operator changed meanwhile stays as it is.
 *
 *     <virtjoule:share xmlns:virtjoule="urn:virtjoule:share:1" device="added" ports="4"
 *                      metadata="added" backing="added" source="added" access="private"
 *                      cells="0,1,"/>
 *
 * "added" means that there was none; anything else is the former value. The cells are those
 * whose memory was private, "ports" is the highest PCI controller before: libvirt may add one
 * for the device.
 */

#include <stdbool.h>
#include <stddef.h>

struct domain_share {
    const char *directory; /* the VM's tree: its last part is the domain's UUID */
    const char *virtiofsd; /* the program; NULL: libvirt finds it */
};

/** What an edit came to; everything else is a negative errno. */
enum domain_xml_result {
    DOMAIN_XML_UNCHANGED,
    DOMAIN_XML_CHANGED,
};

/**
 * Adds what is missing for the share.
 * @param xml          of a domain, as libvirt gives it
 * @param ret          the new text; untouched unless changed
 * @param ret_problem  on failure: the reason, a static string
 * @return a domain_xml_result; -EINVAL: no domain's XML; -EEXIST: the tag is another
 *         file system's; -EBUSY: memory that must not be shared, or is
 *         encrypted; -ENOMEM
 */
int domain_xml_attach(const char *xml, size_t length, const struct domain_share *share, char **ret,
                      const char **ret_problem);

/**
 * Takes out what domain_xml_attach() recorded, where it is still as it was put in.
 * @return as above; -ENOENT: there is a share that was not attached by us
 */
int domain_xml_detach(const char *xml, size_t length, char **ret, const char **ret_problem);

/** A domain's text in the layout that attach and detach write: what differs between the two is
    what they changed. In new memory; NULL where it is no domain's XML, or out of memory. */
char *domain_xml_canonical(const char *xml, size_t length);

/** The device of the share as libvirt attaches it, in new memory; NULL when out of memory. */
char *domain_xml_device(const struct domain_share *share);

/** The share's device as the domain has it, its address included, in new memory; NULL where
    there is none, or out of memory. */
char *domain_xml_share_device(const char *xml, size_t length);

/* Looking. */

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

/** What a domain has of what a share needs. */
struct domain_virtiofs {
    bool shared_memory; /* virtiofsd can map all of it */
    bool huge_pages;    /* all memory is of huge pages that the definition asks for */
    bool has_share;     /* a virtiofs device with our tag, wherever it stands */
    size_t n_devices;   /* those beyond VIRTIOFS_DEVICES_MAX are left out */
    struct virtiofs_device devices[VIRTIOFS_DEVICES_MAX];
};

/**
 * Reads a domain's XML.
 * @param xml  need not be NUL-terminated; any bytes
 * @return 0; -EINVAL: no domain's XML; -ENOMEM. On failure ret is untouched
 */
int domain_xml_read(const char *xml, size_t length, struct domain_virtiofs *ret);
