/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a libvirt domain's XML needs for the energy share, put in and taken out
 * again. Pure functions from text to text; bytes that are not concerned stay.
 *
 * The share is a virtiofs device, and virtiofs needs memory that virtiofsd can
 * map: shared, and backed by a file descriptor. What was changed is recorded in
 * an element of our name space in the domain's metadata, so that a detach undoes
 * just that: whatever the operator changed meanwhile stays as it is.
 *
 *     <virtjoule:share xmlns:virtjoule="urn:virtjoule:share:1" device="added" ports="4"
 *                      metadata="added" backing="added" source="added" access="private"
 *                      cells="0,1"/>
 *
 * "added" means that there was none; anything else is the former value.
 */

#include <stdbool.h>
#include <stddef.h>

/* The tag under which the guest mounts the share. */
#define DOMAIN_SHARE_TAG "virtjoule"

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
 *         file system's; -EBUSY: memory that must not be shared; -ENOMEM
 */
int domain_xml_attach(const char *xml, size_t length, const struct domain_share *share, char **ret,
                      const char **ret_problem);

/**
 * Takes out what domain_xml_attach() recorded, where it is still as it was put in.
 * @return as above; -ENOENT: there is a share that was not attached by us
 */
int domain_xml_detach(const char *xml, size_t length, char **ret, const char **ret_problem);

/** The device of the share as libvirt attaches it, in new memory; NULL when out of memory.
    @param indentation  blanks before its lines; the first has none */
char *domain_xml_device(const struct domain_share *share, int indentation);

/** What a (running) domain has. */
struct domain_state {
    bool share;         /* a share with our tag */
    bool shared_memory; /* memory that virtiofsd can map */
};

/** @return 0; -EINVAL: no domain's XML; -ENOMEM */
int domain_xml_state(const char *xml, size_t length, struct domain_state *ret);

/** The share's device as the domain has it, its address included, in new memory; NULL where
    there is none, or out of memory. */
char *domain_xml_share_device(const char *xml, size_t length);
