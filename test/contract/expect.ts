import { ask, type Outcome } from './ask.ts';
import type { Bed } from './bed.ts';
import { questionsOf, type Question } from './line.ts';
import type { Expectation, Family } from './row.ts';

/** How long an answer is waited for, where one is expected, and where none may come: at first, and once more when all is as expected. In ms. */
const patienceMs = { answer: 800, silence: 150, steady: 250, flow: 300 } as const;
/** How long the expected may take to come about before it counts as wrong: what a slow machine needs, no promise. In ms. */
const deadlineMs = 30_000;

/** Running connections, by name and family: how many answers each has had. */
export type FlowAnswers = (name: string, family: Family) => Promise<number>;

interface Expected {
  readonly question: Question;
  readonly outcome: Outcome;
}

/**
 * Looks until everything is as expected, then once more at what must get nothing: denied stays denied. Returns what is wrong when the
 * time is up, a line each; empty when all is well.
 */
export async function differences(
  bed: Bed,
  expectation: Expectation,
  family: Family,
  answers: FlowAnswers,
): Promise<readonly string[]> {
  const expected = (['reaches', 'refused', 'nothing'] as const).flatMap((outcome) =>
    (expectation[outcome] ?? []).flatMap((line) => questionsOf(line).map((question) => ({ question, outcome }))),
  );
  const deadline = Date.now() + deadlineMs;
  for (let wrong: readonly string[] = []; ;) {
    wrong = (
      await Promise.all([
        wrongAnswers(bed, expected, family, patienceMs.silence),
        wrongFlows(expectation.flows ?? {}, family, answers),
        wrongElse(bed, expectation.also ?? {}, family),
      ])
    ).flat();
    if (wrong.length === 0) break;
    if (Date.now() > deadline) return wrong;
  }
  const denied = expected.filter(({ outcome }) => outcome === 'nothing');
  const leaks = await wrongAnswers(bed, denied, family, patienceMs.steady);
  return leaks.map((leak) => `after it had been denied: ${leak}`);
}

async function wrongAnswers(
  bed: Bed,
  expected: readonly Expected[],
  family: Family,
  silenceMs: number,
): Promise<readonly string[]> {
  const answers = await Promise.all(
    expected.map(async ({ question, outcome }) => {
      const got = await ask(bed, question, family, outcome === 'nothing' ? silenceMs : patienceMs.answer);
      return got === outcome ? [] : [`${question.text}: ${got}, not ${outcome}`];
    }),
  );
  return answers.flat();
}

async function wrongFlows(
  flows: Required<Expectation>['flows'],
  family: Family,
  answers: FlowAnswers,
): Promise<readonly string[]> {
  const wrong = await Promise.all(
    Object.entries(flows).map(async ([name, state]) => {
      const before = await answers(name, family);
      await new Promise((resolve) => setTimeout(resolve, patienceMs.flow));
      const runs = (await answers(name, family)) > before;
      return runs === (state === 'runs') ? [] : [`flow ${name} ${runs ? 'runs' : 'stands'}`];
    }),
  );
  return wrong.flat();
}

async function wrongElse(bed: Bed, also: Required<Expectation>['also'], family: Family): Promise<readonly string[]> {
  const wrong = await Promise.all(
    Object.entries(also).map(async ([name, look]) => {
      const difference = await look(bed, family);
      return difference === undefined ? [] : [`${name}: ${difference}`];
    }),
  );
  return wrong.flat();
}
