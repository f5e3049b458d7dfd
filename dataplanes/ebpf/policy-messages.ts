import type { DataplaneUpdate } from '../messages.ts';
import type { Classifier, ClassifierUpdate } from './classifier/classifier.ts';

/** Hands what is said of policy to the classifier; what is said before there is one waits for it. */
export class PolicyMessages {
  #waiting: ClassifierUpdate[] = [];
  #classifier: Pick<Classifier, 'onUpdate'> | undefined;

  record(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'ipSetUpdate':
      case 'ipSetDelta':
      case 'ipSetRemove':
      case 'policyUpdate':
      case 'policyRemove':
      case 'profileUpdate':
      case 'profileRemove':
        if (this.#classifier === undefined) this.#waiting.push(update);
        else this.#classifier.onUpdate(update);
        break;
      default:
        break;
    }
  }

  /** A new classifier, which knows nothing; undefined: the last one is gone, with all that it was told. */
  useClassifier(classifier: Pick<Classifier, 'onUpdate'> | undefined): void {
    this.#classifier = classifier;
    if (classifier === undefined) return;
    for (const update of this.#waiting.splice(0)) classifier.onUpdate(update);
  }
}
