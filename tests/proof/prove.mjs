// Proves the cases that cases.py wrote: the AWS validator accepts each definition, the reference JSONata agrees about
// each expression, and an IAM simulator allows each call to its role, and denies it on any other resource.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import test from 'node:test';

const require = createRequire(`${process.env.NODE_TOOLS}/`);
const jsonata = require('jsonata');
const asl = require('amazon-states-language-service');
const { runSimulation } = require('@cloud-copilot/iam-simulate');

const { definitions, expressions, evaluated, calls, millis, uuid } = JSON.parse(readFileSync(process.env.CASES, 'utf8'));

test('the AWS validator of definitions', async (proof) => {
  const validator = asl.getLanguageService({});
  for (const [name, definition] of Object.entries(definitions)) {
    await proof.test(name, async () => {
      const document = asl.TextDocument.create(`file:///${name}`, 'asl', 1, JSON.stringify(definition, null, 1));
      const problems = await validator.doValidation(document, validator.parseJSONDocument(document));
      assert.deepEqual(problems.map(({ message, range }) => `${message}: ${document.getText(range)}`), []);
    });
  }
});

test(`${expressions.length} expressions are read by the reference JSONata`, () => {
  for (const expression of expressions) assert.doesNotThrow(() => jsonata(expression), expression);
});

test(`${evaluated.length} evaluations give the same in the reference JSONata`, async () => {
  for (const { expression, result, fails } of evaluated) {
    const compiled = jsonata(expression);
    compiled.registerFunction('parse', JSON.parse, '<s:x>');
    compiled.registerFunction('uuid', () => uuid, '<:s>');
    compiled.registerFunction('millis', () => millis, '<:n>');
    if (fails) await assert.rejects(() => compiled.evaluate(undefined), `${expression} does not fail`);
    else assert.deepEqual(plain(await compiled.evaluate(undefined)), plain(result), expression);
  }
});

test(`${calls.length} calls are allowed to their roles, and on nothing else`, async (proof) => {
  for (const call of calls) {
    await proof.test(`${call.by}: ${call.action}`, async () => {
      assert.equal(await decided(call, call.resource), 'Allowed', call.resource);
      if (call.resource !== '*') assert.notEqual(await decided(call, elsewhere(call.resource)), 'Allowed');
    });
  }
});

async function decided({ role, action, context, policies }, resource) {
  const answer = await runSimulation(
    {
      request: {
        principal: `arn:aws:iam::123456789012:role/${role}`,
        action,
        resource: { resource, accountId: '123456789012' },
        contextVariables: context,
      },
      identityPolicies: policies,
      serviceControlPolicies: [],
      resourceControlPolicies: [],
    },
    {},
  );
  assert.equal(answer.errors, undefined, JSON.stringify(answer.errors));
  return answer.overallResult ?? answer.analysis?.result;
}

/** Another resource of the same kind. */
function elsewhere(resource) {
  const [head, tail] = resource.startsWith('arn:aws:s3:::') ? ['arn:aws:s3:::', resource.slice(13)] : split(resource);
  return head + tail.replace(/^[^/:]+/, 'another');
}

function split(resource) {
  const parts = resource.split(':');
  const name = parts.slice(5).join(':');
  const kind = /^(table|event-bus|rule)\/|^(function|stateMachine|execution|mapRun):/.exec(name)?.[0] ?? '';
  return [`${parts.slice(0, 5).join(':')}:${kind}`, name.slice(kind.length)];
}

/** As JSON has it: JSONata's sequences are arrays with more to them. */
function plain(value) {
  return value === undefined ? null : JSON.parse(JSON.stringify(value));
}
