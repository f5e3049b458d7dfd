import { expect, test } from '@jest/globals';
import { verifierSummary } from './bpf-log.ts';

const log = `func#0 @0
0: R1=ctx() R10=fp0
; int reads_beyond_the_end(struct __sk_buff *skb)
0: (61) r1 = *(u32 *)(r1 +76)         ; R1_w=pkt(r=0)
; return *(__u8 *)(long)skb->data; @ refused.bpf.c:18
1: (71) r0 = *(u8 *)(r1 +0)
invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)
R1 offset is outside of the packet
verification time 73 usec
stack depth 0
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;

test('the end of a log from the last source line on, without statistics', () => {
  expect(verifierSummary(log)).toEqual([
    '; return *(__u8 *)(long)skb->data; @ refused.bpf.c:18',
    '1: (71) r0 = *(u8 *)(r1 +0)',
    'invalid access to packet, off=0 size=1, R1(id=0,off=0,r=0)',
    'R1 offset is outside of the packet',
  ]);
});

test.each([
  ['of a log without source lines the last ones', 'a\nb\nc\nd\n', 2, ['c', 'd']],
  ['at most so many, though the source line is further up', '; x = 1\na\nb\nc\n', 2, ['b', 'c']],
  ['nothing of an empty log', '', 6, []],
  ['nothing of statistics alone', 'processed 2 insns (limit 1000000)\n', 6, []],
])('%s', (_, text, most, expected) => {
  expect(verifierSummary(text, most)).toEqual(expected);
});
