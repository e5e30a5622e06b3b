import { describe, expect, it } from 'vitest';
import { parseHello, parseReply, parseRequest } from '../src/control/protocol.js';

describe('parseRequest', () => {
  it('reads calls and cancellations', () => {
    expect(parseRequest('{"id":1,"command":"ls","args":{}}')).toEqual({ id: 1, command: 'ls', args: {} });
    expect(parseRequest('{"id":2,"command":"down"}')).toEqual({ id: 2, command: 'down' });
    expect(parseRequest('{"cancel":1}')).toEqual({ cancel: 1 });
  });

  it.each([
    ['', 'this is no JSON'],
    ['{"id":1', 'this is no JSON'],
    ['[]', 'request is no object'],
    ['null', 'request is no object'],
    ['7', 'request is no object'],
    ['{"id":-1,"command":"ls"}', 'request.id is no whole number'],
    ['{"id":1.5,"command":"ls"}', 'request.id is no whole number'],
    ['{"id":1}', 'request.command is no text'],
    ['{"id":1,"command":{}}', 'request.command is no text'],
    [`{"id":1,"command":"${'x'.repeat(65)}"}`, 'request.command has 65 characters, 64 at most'],
    ['{"id":1,"command":"ls","more":1}', 'request.more is not known'],
    ['{"id":1,"command":"ls","__proto__":1}', 'request.__proto__ is not known'],
    ['{"cancel":"1"}', 'request.cancel is no whole number'],
    ['{"cancel":1,"id":1}', 'request.id is not known'],
  ])('refuses %s', (line, why) => {
    expect(() => parseRequest(line)).toThrow(why);
  });
});

describe('parseReply and parseHello', () => {
  it('read what a server says', () => {
    expect(parseHello('{"vfio":1,"machine":"lab","pid":7}')).toEqual({ vfio: 1, machine: 'lab', pid: 7 });
    expect(parseReply('{"id":1,"event":[1]}')).toEqual({ id: 1, event: [1] });
    expect(parseReply('{"id":1,"result":null}')).toEqual({ id: 1, result: null });
    expect(parseReply('{"id":1,"error":{"message":"no","exitCode":1}}')).toEqual({
      id: 1,
      error: { message: 'no', exitCode: 1 },
    });
  });

  it('refuse what is none', () => {
    expect(() => parseHello('{"vfio":"1"}')).toThrow('hello.vfio');
    expect(() => parseReply('"x"')).toThrow('reply is no object');
    expect(() => parseReply('{"id":1,"error":"no"}')).toThrow('reply.error is no object');
  });
});
