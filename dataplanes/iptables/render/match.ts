import type { Family } from '#native/types.ts';
import type { IcmpMatch, RuleInfo } from '../../policy.ts';
import { endMatch } from './end-match.ts';
import { markedWith, setMark } from './marks.ts';
import { words } from './text.ts';
import type { RenderContext } from './types.ts';

/** What a rule of a policy asks of a packet, in iptables' words. */
export interface RuleMatch {
  /** Whole rules that come before the deciding one and leave their findings in the scratch marks; mostly none. */
  readonly before: readonly string[];
  /** The matches of the deciding rule; empty: every packet. */
  readonly match: string;
}

const ICMP = {
  4: { protocol: 1, match: '-m icmp', type: '--icmp-type' },
  6: { protocol: 58, match: '-m icmp6', type: '--icmpv6-type' },
} as const;

/**
 * The rule's matches for one family, or undefined where no packet of that family can match it.
 *
 * Everything that is ANDed stands in one iptables rule. What can't is found before it and left in a scratch mark per end: the first rule
 * sets the marks to what holds when nothing more is said, each alternative of the ports (ranges beyond one multiport match, named
 * ports) sets its end's mark, each exception that can't be negated in place clears it, and the deciding rule asks for the marks.
 */
export function ruleMatch(rule: RuleInfo, { family, marks }: RenderContext): RuleMatch | undefined {
  const { ipVersion, protocol, notProtocol } = rule;
  if (ipVersion !== undefined && ipVersion !== family) return undefined;
  if (protocol !== undefined && protocol === notProtocol) return undefined;
  const icmp = icmpMatch(rule, family);
  const source = endMatch('source', rule.source, protocol, family);
  const destination = endMatch('destination', rule.destination, protocol, family);
  if (icmp === undefined || source === undefined || destination === undefined) return undefined;

  const blocks = [
    { ...source, bit: marks.scratch0 },
    { ...destination, bit: marks.scratch1 },
  ].filter(({ any, none }) => any.length + none.length > 0);
  const bits = sum(blocks);
  const holding = sum(blocks.filter(({ any }) => any.length === 0));
  return {
    before:
      blocks.length === 0
        ? []
        : [
            setMark(holding, bits - holding),
            ...blocks.flatMap(({ any, none, bit }) => [
              ...any.map((way) => words(way, setMark(bit))),
              ...none.map((way) => words(way, setMark(0, bit))),
            ]),
          ],
    match: words(
      protocolMatch(rule),
      icmp,
      blocks.length === 0 ? '' : markedWith(bits),
      ...source.inline,
      ...destination.inline,
    ),
  };
}

const sum = (blocks: readonly { readonly bit: number }[]): number => blocks.reduce((all, { bit }) => all + bit, 0);

/** iptables takes one `-p` a rule: where `protocol` is given, another `notProtocol` says nothing more. */
function protocolMatch({ protocol, notProtocol }: RuleInfo): string {
  if (protocol !== undefined) return `-p ${protocol}`;
  return notProtocol === undefined ? '' : `! -p ${notProtocol}`;
}

/** Types exist in one protocol of one family: undefined where the rule asks for them elsewhere. */
function icmpMatch({ protocol, icmp, notIcmp }: RuleInfo, family: Family): string | undefined {
  if (icmp === undefined && notIcmp === undefined) return '';
  const { protocol: number, match, type } = ICMP[family];
  if (protocol !== number) return undefined;
  const value = ({ type, code }: IcmpMatch): string => (code === undefined ? `${type}` : `${type}/${code}`);
  return words(
    icmp === undefined ? '' : words(match, type, value(icmp)),
    notIcmp === undefined ? '' : words(match, '!', type, value(notIcmp)),
  );
}
