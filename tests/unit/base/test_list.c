/* base/list.h against an array that does the same, in random order. */
#include "base/base.h"
#include "check_fiber.h"
#include <string.h>

enum { ELEMENTS = 16 };
typedef struct element {
    int number;
    stel__link link;
} element;

static element elements[ELEMENTS];
static int model[ELEMENTS], model_length;

static void check_same(const stel__list *l) {
    const stel__link *at = l->head, *previous = NULL;
    for (int i = 0; i < model_length; i++) {
        ck_assert_ptr_nonnull(at);
        ck_assert_ptr_eq(at->prev, previous);
        ck_assert_int_eq(STEL__CONTAINER(at, const element, link)->number, model[i]);
        previous = at;
        at = at->next;
    }
    ck_assert_ptr_null(at);
    ck_assert_ptr_eq(l->tail, previous);
}

static void model_remove(int at) {
    memmove(model + at, model + at + 1, (size_t)(model_length - at - 1) * sizeof *model);
    model_length--;
}

START_TEST(like_an_array) {
    stel__list list = { 0 };
    bool in[ELEMENTS] = { false };
    uint64_t random = test_seed();
    for (int i = 0; i < ELEMENTS; i++)
        elements[i].number = i;
    for (uint64_t step = test_scale(20000); step > 0; step--) {
        int n = (int)test_random(&random, ELEMENTS);
        switch (test_random(&random, 3)) {
        case 0:
            if (in[n]) break;
            stel__list_push_tail(&list, &elements[n].link);
            model[model_length++] = n;
            in[n] = true;
            break;
        case 1:
            if (in[n]) {
                stel__list_remove(&list, &elements[n].link);
                int at = 0;
                while (model[at] != n)
                    at++;
                model_remove(at);
                in[n] = false;
            } else {
                stel__list_push_head(&list, &elements[n].link);
                memmove(model + 1, model, (size_t)model_length * sizeof *model);
                model[0] = n;
                model_length++;
                in[n] = true;
            }
            break;
        default: {
            stel__link *l = stel__list_pop_head(&list);
            ck_assert_int_eq(l != NULL, model_length > 0);
            if (!l) break;
            ck_assert_int_eq(STEL__CONTAINER(l, element, link)->number, model[0]);
            in[model[0]] = false;
            model_remove(0);
        }
        }
        check_same(&list);
    }
}
END_TEST

START_TEST(empty_when_zeroed) {
    stel__list list = { 0 };
    ck_assert_ptr_null(stel__list_pop_head(&list));
    stel__list_push_head(&list, &elements[0].link);
    ck_assert_ptr_eq(stel__list_pop_head(&list), &elements[0].link);
    ck_assert_ptr_null(list.head);
    ck_assert_ptr_null(list.tail);
}
END_TEST

TEST_MAIN("base/list", like_an_array, empty_when_zeroed)
