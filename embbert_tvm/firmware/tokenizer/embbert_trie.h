/* A vocabulary as a trie. Nodes are numbered by level, node 0 being the root, so that the children of one follow those
 * of the node before it; a symbol below 256 is one step, another two.
 *
 *   trie_label[n], trie_children[n]   the byte that leads to node n; how many children it has
 *   trie_base[n / 16]                 the first child of node n, where n is a multiple of 16
 *   trie_ends, trie_rank              bit n: a token ends at node n; how many do before node 32 i
 *   trie_tokens                       token ids by that rank
 *   trie_start[s][byte]               the child of the s-th node that words begin at, 0 for none */
#ifndef EMBBERT_TRIE_H
#define EMBBERT_TRIE_H

#include "embbert_text.h"

/* A node's child by a byte; 0: it has none. */
static uint32_t trie_child(uint32_t node, uint32_t byte)
{
    uint32_t first = trie_base[node / 16u], count = trie_children[node];
    for (uint32_t i = node & ~15u; i < node; i++) {
        first += trie_children[i];
    }
    for (uint32_t i = first; i < first + count; i++) {
        if (trie_label[i] == byte) {
            return i;
        }
    }
    return 0;
}

/* The node that a symbol leads to from a node; 0: none. */
static inline uint32_t trie_step(uint32_t node, uint32_t symbol)
{
    if (symbol >= 256u) {
        node = trie_child(node, symbol >> 8);
        return node == 0 ? 0 : trie_child(node, symbol & 255u);
    }
    return trie_child(node, symbol);
}

/* The node that a symbol leads to from the s-th node that words begin at; 0: none. */
static inline uint32_t trie_begin(uint32_t s, uint32_t symbol)
{
    if (symbol >= 256u) {
        uint32_t node = trie_start[s][symbol >> 8];
        return node == 0 ? 0 : trie_child(node, symbol & 255u);
    }
    return trie_start[s][symbol];
}

static inline bool trie_is_end(uint32_t node)
{
    return trie_ends[node / 32u] >> node % 32u & 1u;
}

/* How many tokens end at nodes before this one. */
static inline uint32_t trie_rank_of(uint32_t node)
{
    uint32_t bits = trie_ends[node / 32u] & ((1u << node % 32u) - 1u);
    bits = bits - (bits >> 1 & 0x55555555u);
    bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
    bits = (bits + (bits >> 4)) & 0x0F0F0F0Fu;
    return trie_rank[node / 32u] + (bits * 0x01010101u >> 24);
}

#endif
